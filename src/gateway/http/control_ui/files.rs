//! Which file a path means.

use std::convert::Infallible;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use futures::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::io::AsyncReadExt;
use tokio_tungstenite::tungstenite::Bytes;

use super::super::Body;

/// Longest file that is served.
const MAX_FILE: u64 = 64 * 1024 * 1024;
/// Longest page: it is read whole, because its text is changed.
const MAX_PAGE: u64 = 4 * 1024 * 1024;
/// Most bytes of a file in memory for one client.
const CHUNK: usize = 64 * 1024;
const PAGE: &str = "index.html";

/// What a path means.
#[derive(Debug)]
pub(super) enum Found {
    /// The page itself.
    Page(Vec<u8>),
    /// Any other file.
    File {
        /// Its media type.
        kind: &'static str,
        /// Changes with the file.
        tag: String,
        content: Content,
    },
    Nothing,
}

/// A file that is open for reading, and its length.
#[derive(Debug)]
pub(super) struct Content {
    file: File,
    pub(super) length: u64,
}

impl Content {
    /// The bytes, read as they are taken. A file that has become shorter meanwhile ends early, which the client sees from
    /// its length.
    pub(super) fn body(self) -> Body {
        let mut file = tokio::fs::File::from_std(self.file);
        file.set_max_buf_size(CHUNK);
        let frames = stream::unfold((file, self.length), |(mut file, left)| async move {
            let most = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            let mut bytes = vec![0; most];
            match file.read(&mut bytes).await {
                Ok(0) => None,
                Ok(read) => {
                    bytes.truncate(read);
                    let left = left.saturating_sub(u64::try_from(read).unwrap_or(left));
                    Some((Ok::<_, Infallible>(Frame::data(Bytes::from(bytes))), (file, left)))
                }
                Err(error) => {
                    tracing::warn!(%error, "a file of the Control UI cannot be read to its end");
                    None
                }
            }
        });
        StreamBody::new(frames).boxed_unsync()
    }
}

/// Finds the file of a decoded path; where there is none, the page if the path is one of its own. Blocks.
///
/// # Errors
/// The folder or the file cannot be read.
pub(super) fn find(root: &Path, path: &str) -> io::Result<Found> {
    let root = fs::canonicalize(root)?;
    let Some(relative) = relative(path) else { return Ok(Found::Nothing) };
    if let Some(found) = open(&root, &relative)? {
        return Ok(found);
    }
    let names_a_file = relative.extension().is_some();
    if names_a_file {
        Ok(Found::Nothing)
    } else {
        Ok(open(&root, Path::new(PAGE))?.unwrap_or(Found::Nothing))
    }
}

/// The path below the folder; none if it leads elsewhere or to what is hidden. The page's files are found from all of its
/// own paths.
fn relative(path: &str) -> Option<PathBuf> {
    let path = match path.find("/assets/") {
        Some(at) => &path[at..],
        None => path,
    };
    let mut relative = PathBuf::new();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        if part.starts_with('.') || part.contains(['\\', '\0']) {
            return None;
        }
        relative.push(part);
    }
    if relative.as_os_str().is_empty() {
        relative.push(PAGE);
    }
    Some(relative)
}

/// Opens a file below the folder; none if there is none, or a link leads out.
fn open(root: &Path, relative: &Path) -> io::Result<Option<Found>> {
    let real = match fs::canonicalize(root.join(relative)) {
        Ok(real) if real.starts_with(root) => real,
        Ok(_) => return Ok(None),
        Err(error) if is_absence(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let file = File::open(&real)?;
    let facts = file.metadata()?;
    let is_page = relative == Path::new(PAGE);
    if !facts.is_file() || facts.len() > if is_page { MAX_PAGE } else { MAX_FILE } {
        return Ok(None);
    }
    if is_page {
        let mut bytes = Vec::new();
        file.take(MAX_PAGE).read_to_end(&mut bytes)?;
        return Ok(Some(Found::Page(bytes)));
    }
    let changed = facts.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    Ok(Some(Found::File {
        kind: media_type(relative),
        tag: format!("\"{:x}-{:x}\"", facts.len(), changed.as_nanos()),
        content: Content { file, length: facts.len() },
    }))
}

/// A name that is too long, or goes through a file, is none.
fn is_absence(error: &io::Error) -> bool {
    use io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidFilename | ErrorKind::InvalidInput
    )
}

fn media_type(path: &Path) -> &'static str {
    const TYPES: &[(&str, &str)] = &[
        ("html", "text/html; charset=utf-8"),
        ("js", "application/javascript; charset=utf-8"),
        ("mjs", "application/javascript; charset=utf-8"),
        ("css", "text/css; charset=utf-8"),
        ("json", "application/json; charset=utf-8"),
        ("map", "application/json; charset=utf-8"),
        ("webmanifest", "application/manifest+json; charset=utf-8"),
        ("txt", "text/plain; charset=utf-8"),
        ("svg", "image/svg+xml"),
        ("png", "image/png"),
        ("jpg", "image/jpeg"),
        ("jpeg", "image/jpeg"),
        ("gif", "image/gif"),
        ("webp", "image/webp"),
        ("avif", "image/avif"),
        ("ico", "image/x-icon"),
        ("woff", "font/woff"),
        ("woff2", "font/woff2"),
        ("ttf", "font/ttf"),
        ("wasm", "application/wasm"),
        ("mp3", "audio/mpeg"),
        ("mp4", "video/mp4"),
    ];
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let known = TYPES.iter().find(|(known, _)| known.eq_ignore_ascii_case(extension));
    known.map_or("application/octet-stream", |(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("ui");
        fs::create_dir_all(root.join("assets")).unwrap();
        fs::write(root.join("index.html"), "page").unwrap();
        fs::write(root.join("assets/a b.js"), "code").unwrap();
        fs::write(root.join(".hidden"), "hidden").unwrap();
        fs::write(dir.path().join("secret.txt"), "secret").unwrap();
        symlink(dir.path().join("secret.txt"), root.join("out.txt")).unwrap();
        symlink(dir.path(), root.join("outside")).unwrap();
        symlink(root.join("assets"), root.join("inside")).unwrap();
        dir
    }

    fn text(dir: &tempfile::TempDir, path: &str) -> Option<String> {
        match find(&dir.path().join("ui"), path).unwrap() {
            Found::Page(bytes) => Some(String::from_utf8(bytes).unwrap()),
            Found::File { content, .. } => Some(io::read_to_string(content.file).unwrap()),
            Found::Nothing => None,
        }
    }

    #[test]
    fn paths_mean_files_or_the_page() {
        let dir = folder();
        for path in ["/", "/index.html", "/chat", "/sessions/agent:main:main", "/assets"] {
            assert_eq!(text(&dir, path).as_deref(), Some("page"), "{path}");
        }
        for path in ["/assets/a b.js", "/chat/assets/a b.js", "//assets//a b.js", "/inside/a b.js"] {
            assert_eq!(text(&dir, path).as_deref(), Some("code"), "{path}");
        }
        assert_eq!(text(&dir, "/missing.js"), None);
        assert_eq!(text(&dir, "/index.html/x.js"), None);
    }

    #[test]
    fn nothing_outside_of_the_folder_is_served() {
        let dir = folder();
        for path in [
            "/../secret.txt",
            "/assets/../../secret.txt",
            "/..\\secret.txt",
            "/out.txt",
            "/outside/secret.txt",
            "/.hidden",
            "/a\0b",
            &format!("/{}.js", "x".repeat(5_000)),
        ] {
            assert_eq!(text(&dir, path), None, "{path:?}");
        }
    }

    #[tokio::test]
    async fn a_long_file_is_in_memory_in_pieces_only() {
        let dir = folder();
        let written: Vec<u8> = (0..3 * CHUNK + 7).map(|byte| byte.to_le_bytes()[0]).collect();
        fs::write(dir.path().join("ui/long.bin"), &written).unwrap();
        let Found::File { content, .. } = find(&dir.path().join("ui"), "/long.bin").unwrap() else {
            panic!()
        };
        assert_eq!(content.length, written.len() as u64);
        let (mut body, mut read) = (content.body(), Vec::new());
        while let Some(frame) = body.frame().await {
            let piece = frame.unwrap().into_data().unwrap();
            assert!(piece.len() <= CHUNK);
            read.extend_from_slice(&piece);
        }
        assert!(read == written);
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        assert!(find(Path::new("/nowhere/at/all"), "/").is_err());
    }
}
