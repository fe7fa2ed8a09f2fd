//! The key by which the gateway is known to apps that remember it: made when it is first asked for, kept in a file that
//! only its owner may read.

use std::fs;
use std::io;
use std::path::Path;

use offshoot_actors::types::PublicKey;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use crate::config::write_private;

const FILE: &str = "gateway.key";

/// The public half.
///
/// # Errors
/// The file cannot be read or written, or holds no key.
pub(super) fn of_gateway(state_dir: &Path) -> io::Result<PublicKey> {
    let path = state_dir.join(FILE);
    let pkcs8 = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
            let made = made.map_err(|_| io::Error::other("the system has no randomness"))?;
            write_private(&path, made.as_ref())?;
            // Another may have been quicker: what is in the file counts.
            fs::read(&path)?
        }
        Err(error) => return Err(error),
    };
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, format!("{} holds no key", path.display()));
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pkcs8).map_err(|_| invalid())?;
    let bytes = pair.public_key().as_ref().try_into().map_err(|_| invalid())?;
    Ok(PublicKey::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_only_its_owner_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let key = of_gateway(dir.path()).unwrap();
        assert_eq!(of_gateway(dir.path()).unwrap(), key);
        let file = dir.path().join(FILE);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&file, b"nothing").unwrap();
        assert!(of_gateway(dir.path()).is_err());
    }
}
