//! What can be typed to keep the state directory well.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Copy the database, check a copy, put one back
#[derive(Debug, Subcommand)]
pub(crate) enum BackupCommand {
    /// Copy the database to a file, also while a gateway writes to it
    ///
    /// The copy is the database as it is at one moment. It is checked before it gets its name, and only its owner can
    /// read it. Configuration and tokens are not in it.
    Create {
        /// The file; it must not exist [default: one in `backups` of the state directory, named by the time]
        file: Option<PathBuf>,
    },
    /// Check that a copy is whole: its pages, what its rows refer to, the chain of its audit record
    ///
    /// Exit code 0 if it is, 6 if it is not, 5 if there is none.
    Verify {
        /// The file
        file: PathBuf,
    },
    /// Put a copy in the place of the database
    ///
    /// Refused while a process has the state directory. The copy is checked first, and the database that it replaces is
    /// kept beside it. Runs that were open when the copy was made are open again, and the next start decides on them as
    /// after a crash.
    Restore {
        /// The file
        file: PathBuf,
    },
}

/// Look for what is wrong with the state directory and the configuration
///
/// Says for each finding what it is, why it matters, and which command helps. Works beside a running gateway and without
/// one, and changes nothing without --fix. Exit code 0 if nothing was found, 6 if something was, also where --fix has
/// mended it.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Mend what can be mended without a loss: remove files that nobody needs, take others' access away
    #[arg(long)]
    pub(crate) fix: bool,
}
