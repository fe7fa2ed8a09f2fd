//! The shared token of a gateway whose configuration has none: made at the first start, kept in a file that only its owner
//! may read.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::RngExt as _;
use secrecy::SecretString;

use super::auth::AuthSettings;
use crate::config::{keep_private, write_private};

const FILE: &str = "gateway.token";
/// Longer than any token; a file of this size is something else.
const MAX_FILE: u64 = 4_096;

/// Where the token is that the daemon has made for itself.
#[must_use]
pub fn file(state_dir: &Path) -> PathBuf {
    state_dir.join(FILE)
}

/// The token that the daemon has made for itself, if there is one.
///
/// # Errors
/// The file cannot be read.
pub fn read(state_dir: &Path) -> io::Result<Option<SecretString>> {
    let path = file(state_dir);
    match fs::metadata(&path) {
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
    let text = fs::read_to_string(&path)?;
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

fn make(path: &Path) -> io::Result<SecretString> {
    let bytes: [u8; 32] = rand::rng().random();
    let token = URL_SAFE_NO_PAD.encode(bytes);
    write_private(path, format!("{token}\n").as_bytes())?;
    Ok(token.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use secrecy::ExposeSecret;

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
    fn a_configured_token_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = AuthSettings { token: Some("configured".into()), ..AuthSettings::default() };
        assert_eq!(ensure(&mut settings, dir.path()).unwrap(), None);
        assert!(!file(dir.path()).exists());
    }
}
