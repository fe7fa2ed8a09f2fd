//! The shared token of a gateway whose configuration has none: made at the first start, kept in a file that only its owner
//! may read.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::RngExt as _;
use secrecy::{ExposeSecret, SecretString};

use super::auth::{AuthMode, AuthSettings};
use crate::config::{keep_private, write_private};

const FILE: &str = "gateway.token";
/// What a running gateway asks for until its restart, where the configuration does not have it any more.
const KEPT: &str = "gateway.token.kept";
/// Longer than any token; a file of this size is something else.
const MAX_FILE: u64 = 4_096;

/// Where the token is that the daemon has made for itself.
#[must_use]
pub fn file(state_dir: &Path) -> PathBuf {
    state_dir.join(FILE)
}

/// Where the secret is that a running gateway asks for until its restart, if it had to keep it.
pub(crate) fn kept(state_dir: &Path) -> PathBuf {
    state_dir.join(KEPT)
}

/// The token that the daemon has made for itself, if there is one.
///
/// # Errors
/// The file cannot be read.
pub fn read(state_dir: &Path) -> io::Result<Option<SecretString>> {
    read_file(&file(state_dir))
}

/// The secret in such a file, if it is there.
///
/// # Errors
/// The file cannot be read.
pub fn read_file(path: &Path) -> io::Result<Option<SecretString>> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
        Ok(metadata) if metadata.len() > MAX_FILE => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{} holds no token", path.display()),
            ));
        }
        Ok(_) => {}
    }
    let text = fs::read_to_string(path)?;
    let text = text.trim();
    Ok((!text.is_empty()).then(|| text.into()))
}

/// Gives the settings a token if they need one and have none. Returns the file that it is in.
///
/// # Errors
/// The file cannot be read or written.
pub fn ensure(settings: &mut AuthSettings, state_dir: &Path) -> io::Result<Option<PathBuf>> {
    if !settings.lacks_token() {
        return Ok(None);
    }
    let path = file(state_dir);
    let token = match read(state_dir)? {
        Some(token) => {
            keep_private(&path);
            token
        }
        None => make(&path)?,
    };
    settings.token = Some(token);
    Ok(Some(path))
}

/// Writes down what clients prove until the restart, for the commands of this machine. Returns the file that it is in;
/// none where nothing secret is asked for.
///
/// # Errors
/// The file cannot be written.
pub fn keep(settings: &AuthSettings, state_dir: &Path) -> io::Result<Option<PathBuf>> {
    let secret = match settings.mode {
        AuthMode::Token => &settings.token,
        AuthMode::Password => &settings.password,
        AuthMode::None | AuthMode::TrustedProxy => &None,
    };
    let Some(secret) = secret else { return Ok(None) };
    let path = state_dir.join(KEPT);
    write_private(&path, format!("{}\n", secret.expose_secret()).as_bytes())?;
    Ok(Some(path))
}

/// Takes that away: the configuration counts again.
pub fn forget_kept(state_dir: &Path) {
    // Mostly there is none, and one that stays is worth nothing any more.
    _ = fs::remove_file(state_dir.join(KEPT));
}

fn make(path: &Path) -> io::Result<SecretString> {
    let token = random();
    write_private(path, format!("{token}\n").as_bytes())?;
    Ok(token.into())
}

/// One that begins with a hyphen would be taken for an option by a command that is given it.
fn random() -> String {
    loop {
        let token = URL_SAFE_NO_PAD.encode(rand::rng().random::<[u8; 32]>());
        if !token.starts_with('-') {
            break token;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_token_is_made_once_and_only_its_owner_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = AuthSettings::default();
        let path = ensure(&mut settings, dir.path()).unwrap().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let token = settings.token.unwrap();
        assert!(token.expose_secret().len() >= 40);
        let mut again = AuthSettings::default();
        ensure(&mut again, dir.path()).unwrap();
        assert_eq!(again.token.unwrap().expose_secret(), token.expose_secret());
    }

    #[test]
    fn no_token_looks_like_an_option() {
        assert!((0..2_000).all(|_| !random().starts_with('-')));
    }

    #[test]
    fn a_file_that_others_could_read_is_closed_to_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path());
        for content in ["", "a token"] {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            ensure(&mut AuthSettings::default(), dir.path()).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{content:?}");
        }
    }

    #[test]
    fn a_secret_that_is_kept_until_the_restart_is_in_a_file_until_then() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = AuthSettings {
            token: Some("a token".into()),
            password: Some("pass".into()),
            ..AuthSettings::default()
        };
        for (mode, kept) in [
            (AuthMode::Token, Some("a token")),
            (AuthMode::Password, Some("pass")),
            (AuthMode::None, None),
            (AuthMode::TrustedProxy, None),
        ] {
            let path = keep(&AuthSettings { mode, ..secrets.clone() }, dir.path()).unwrap();
            let read = path.as_ref().and_then(|path| read_file(path).unwrap());
            assert_eq!(read.as_ref().map(ExposeSecret::expose_secret), kept, "{mode:?}");
            if let Some(path) = path {
                assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
                forget_kept(dir.path());
                assert!(!path.exists());
            }
        }
    }

    #[test]
    fn a_configured_token_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = AuthSettings { token: Some("configured".into()), ..AuthSettings::default() };
        assert_eq!(ensure(&mut settings, dir.path()).unwrap(), None);
        assert!(!file(dir.path()).exists());
    }
}
