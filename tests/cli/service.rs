//! `offshoot service`

use crate::support::{Done, World};

fn installs(world: &World, arguments: &[&str]) -> Done {
    world.run(&[&["service", "install", "--dry-run"], arguments].concat())
}

#[test]
fn a_service_is_not_made_of_a_configuration_that_cannot_be_used() {
    let world = World::with("{ gateway: { port: \"many\" } }");
    installs(&world, &[]).exits(2).says("gateway.port");
    installs(&world, &["--config", "/nowhere.json"]).exits(2).says("/nowhere.json does not exist");
    world.configure("{}");
    installs(&world, &[]).exits(0);
}

#[test]
fn a_service_starts_the_program_by_the_name_that_it_was_called() {
    let world = World::new();
    let program = env!("CARGO_BIN_EXE_offshoot");
    std::fs::create_dir(world.path("bin")).unwrap();
    let link = world.path("bin/offshoot-now");
    std::os::unix::fs::symlink(program, &link).unwrap();
    let starts = |called: &str| {
        let mut command = std::process::Command::new(called);
        command.env_clear().env("HOME", world.path("")).env("PATH", world.path("bin"));
        let done = Done::from(command.args(["service", "install", "--dry-run"]).output().unwrap()).exits(0);
        assert!(done.stdout.contains(&format!("{} gateway run", link.display())), "{}", done.stdout);
    };
    starts(link.to_str().unwrap());
    starts("offshoot-now");
}
