//! The log file with those before it: a new one when it is full, and for each day.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::clock;

/// Where the log is kept, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFile {
    /// The file that is written to. Those before it are beside it: of `a.log`, `a.1.log` is the last one.
    pub path: PathBuf,
    /// Bytes of one file.
    pub max_bytes: u64,
    /// Files that are kept beside the one that is written to.
    pub keep: u32,
}

/// The file while it is written to.
#[derive(Debug)]
pub(super) struct Rotation {
    settings: LogFile,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Which file it is, wherever it is moved to.
    inode: u64,
    bytes: u64,
    /// The day of its lines.
    day: u64,
}

impl Rotation {
    pub(super) const fn new(settings: LogFile) -> Self {
        Self { settings, open: None }
    }

    /// Appends lines that were written on that day.
    ///
    /// # Errors
    /// The file cannot be written to. It is opened anew the next time.
    pub(super) fn write(&mut self, lines: &[String], day: u64) -> io::Result<()> {
        let written = self.try_write(lines, day);
        if written.is_err() {
            self.open = None;
        }
        written
    }

    fn try_write(&mut self, lines: &[String], day: u64) -> io::Result<()> {
        let mut open = self.opened(day)?;
        let mut together = Vec::new();
        for line in lines {
            let bytes = open.bytes + (together.len() + line.len()) as u64;
            let is_full = bytes > self.settings.max_bytes && bytes > line.len() as u64;
            if is_full || (open.day != day && open.bytes > 0) {
                open.file.write_all(&together)?;
                together.clear();
                drop(open);
                self.shift()?;
                open = open_at(&self.settings.path, day)?;
            }
            open.day = day;
            together.extend_from_slice(line.as_bytes());
        }
        open.file.write_all(&together)?;
        open.bytes += together.len() as u64;
        self.open = Some(open);
        Ok(())
    }

    /// The file; another one if somebody has moved or removed it.
    fn opened(&mut self, day: u64) -> io::Result<Open> {
        let path = &self.settings.path;
        match self.open.take() {
            Some(open) if fs::symlink_metadata(path).is_ok_and(|found| found.ino() == open.inode) => Ok(open),
            _ => open_at(path, day),
        }
    }

    /// Moves each file one further; the oldest one goes.
    fn shift(&self) -> io::Result<()> {
        let LogFile { path, keep, .. } = &self.settings;
        if *keep == 0 {
            return fs::remove_file(path);
        }
        for number in (1..*keep).rev() {
            match fs::rename(numbered(path, number), numbered(path, number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(path, numbered(path, 1))
    }
}

/// `a.log` becomes `a.1.log`.
fn numbered(path: &Path, number: u32) -> PathBuf {
    let extension = path.extension().map(|extension| extension.to_string_lossy());
    path.with_extension(match extension {
        Some(extension) => format!("{number}.{extension}"),
        None => number.to_string(),
    })
}

fn open_at(path: &Path, day: u64) -> io::Result<Open> {
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let flags = rustix::fs::OFlags::NOFOLLOW.bits();
    #[expect(clippy::cast_possible_wrap, reason = "flags have no sign")]
    let opened =
        OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(flags as i32).open(path);
    let file = opened?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    if found.permissions().mode() & 0o077 != 0 {
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
    }
    let bytes = found.len();
    let day = if bytes == 0 { day } else { found.modified().map_or(day, clock::day) };
    Ok(Open { file, inode: found.ino(), bytes, day })
}

#[cfg(test)]
mod tests;
