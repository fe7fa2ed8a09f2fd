//! The way from SQLite to the disk.
//!
//! The VFS is SQLite's own with another `xOpen` and `xDelete`. A file is opened by SQLite's own VFS in the memory that
//! SQLite gives for it; if it is on a disk of ours its table of methods is then replaced by a copy in which writing,
//! reading, syncing and closing come by here first. What belongs to us stands behind what belongs to SQLite.

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rusqlite::ffi::{
    SQLITE_IOERR_DELETE, SQLITE_IOERR_FSYNC, SQLITE_IOERR_READ, SQLITE_IOERR_TRUNCATE, SQLITE_IOERR_WRITE,
    SQLITE_OK, sqlite3_file, sqlite3_io_methods, sqlite3_vfs, sqlite3_vfs_find, sqlite3_vfs_register,
};

use crate::file::Change;
use crate::{Inner, disk_of};

/// Where ours begins in the memory of a file is a multiple of this.
const ALIGN: usize = 16;

/// What belongs to us in the memory of a file.
struct Ours {
    disk: Arc<Inner>,
    name: String,
    theirs: &'static sqlite3_io_methods,
}

/// SQLite's own VFS.
struct Own {
    vfs: *mut sqlite3_vfs,
    offset: usize,
    /// Its tables of methods, which has some for files with locks and others for those without, each with our copy.
    methods: Mutex<Vec<(&'static sqlite3_io_methods, &'static sqlite3_io_methods)>>,
}

// SAFETY: SQLite never changes or frees its own VFS, and calls it from any thread.
unsafe impl Send for Own {}
// SAFETY: as above; what changes here is behind a lock.
unsafe impl Sync for Own {}

static OWN: OnceLock<Own> = OnceLock::new();

/// Makes this the VFS of every database that is opened from now on.
pub(crate) fn install() {
    OWN.get_or_init(|| {
        // SAFETY: SQLite gives back its default VFS, which lives as long as the process; none is named.
        let own = unsafe { sqlite3_vfs_find(std::ptr::null()) };
        assert!(!own.is_null(), "SQLite has a VFS");
        // SAFETY: it is not null, and nobody changes it.
        let mut ours = unsafe { *own };
        let offset = usize::try_from(ours.szOsFile).unwrap().next_multiple_of(ALIGN);
        ours.szOsFile = c_int::try_from(offset + size_of::<*mut Ours>()).unwrap();
        ours.zName = c"power".as_ptr();
        ours.pNext = std::ptr::null_mut();
        ours.xOpen = Some(open);
        ours.xDelete = Some(delete);
        // SAFETY: the structure is valid and is never freed.
        let registered = unsafe { sqlite3_vfs_register(Box::into_raw(Box::new(ours)), 1) };
        assert_eq!(registered, SQLITE_OK);
        Own { vfs: own, offset, methods: Mutex::default() }
    });
}

impl Own {
    /// Our copy of a table of methods.
    fn methods(&self, theirs: &'static sqlite3_io_methods) -> &'static sqlite3_io_methods {
        let mut known = self.methods.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, ours)) = known.iter().find(|(table, _)| std::ptr::eq(*table, theirs)) {
            return ours;
        }
        let mut ours = *theirs;
        ours.xClose = Some(close);
        ours.xRead = Some(read);
        ours.xWrite = Some(write);
        ours.xTruncate = Some(truncate);
        ours.xSync = Some(sync);
        let ours = Box::leak(Box::new(ours));
        known.push((theirs, ours));
        ours
    }
}

fn own() -> &'static Own {
    OWN.get().unwrap()
}

/// # Safety
/// `path` is null or a C string.
unsafe fn disk(path: *const c_char) -> Option<(Arc<Inner>, String)> {
    if path.is_null() {
        return None;
    }
    // SAFETY: the caller says so.
    let path = unsafe { CStr::from_ptr(path) };
    disk_of(Path::new(OsStr::from_bytes(path.to_bytes())))
}

unsafe extern "C" fn open(
    _: *mut sqlite3_vfs,
    path: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: SQLite gives null or the path of the file.
    let disk = unsafe { disk(path) };
    let existed = disk.as_ref().is_some_and(|(disk, name)| disk.dir.join(name).exists());
    let own = own();
    // SAFETY: these are SQLite's own arguments, and the file has at least the memory that its own VFS wants.
    let opened = unsafe { (*own.vfs).xOpen.unwrap()(own.vfs, path, file, flags, out) };
    let Some((disk, name)) = disk else { return opened };
    if opened != SQLITE_OK {
        return opened;
    }
    disk.open(&name, existed);
    // SAFETY: an opened file has a table of methods, which is SQLite's own and lasts for ever.
    let theirs: &'static sqlite3_io_methods = unsafe { &*(*file).pMethods };
    let methods = own.methods(theirs);
    let behind = Box::into_raw(Box::new(Ours { disk, name, theirs }));
    // SAFETY: the memory of the file has room for a pointer there, at an aligned place: `install` said so. SQLite's own
    // VFS does not look at the table of methods that it is called through.
    unsafe {
        place(file).write(behind);
        (*file).pMethods = methods;
    }
    SQLITE_OK
}

/// # Safety
/// `file` was opened by our VFS.
unsafe fn place(file: *mut sqlite3_file) -> *mut *mut Ours {
    // SAFETY: the memory of such a file reaches beyond that place.
    unsafe { file.cast::<u8>().add(own().offset).cast() }
}

/// # Safety
/// `file` is on a disk of ours and open.
unsafe fn ours<'a>(file: *mut sqlite3_file) -> &'a Ours {
    // SAFETY: `open` put it there, and only `close` takes it away.
    unsafe { &**place(file) }
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // SAFETY: the file is ours and is not used any more after this.
    unsafe {
        let ours = Box::from_raw(*place(file));
        (*file).pMethods = ours.theirs;
        ours.theirs.xClose.unwrap()(file)
    }
}

unsafe extern "C" fn read(file: *mut sqlite3_file, to: *mut c_void, count: c_int, at: i64) -> c_int {
    // SAFETY: the file is ours; the arguments are SQLite's own.
    unsafe {
        match ours(file).disk.read() {
            Ok(()) => ours(file).theirs.xRead.unwrap()(file, to, count, at),
            Err(_) => SQLITE_IOERR_READ,
        }
    }
}

unsafe extern "C" fn write(file: *mut sqlite3_file, from: *const c_void, count: c_int, at: i64) -> c_int {
    // SAFETY: the file is ours; SQLite gives so many bytes.
    let (ours, bytes) = unsafe {
        (ours(file), std::slice::from_raw_parts(from.cast::<u8>(), usize::try_from(count).unwrap()))
    };
    let change = Change::Write { at: usize::try_from(at).unwrap(), bytes: bytes.to_vec() };
    match ours.disk.change(&ours.name, change) {
        // SAFETY: the arguments are SQLite's own.
        Ok(()) => unsafe { ours.theirs.xWrite.unwrap()(file, from, count, at) },
        Err(_) => SQLITE_IOERR_WRITE,
    }
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, size: i64) -> c_int {
    // SAFETY: the file is ours.
    let ours = unsafe { ours(file) };
    match ours.disk.change(&ours.name, Change::Truncate { len: usize::try_from(size).unwrap() }) {
        // SAFETY: the arguments are SQLite's own.
        Ok(()) => unsafe { ours.theirs.xTruncate.unwrap()(file, size) },
        Err(_) => SQLITE_IOERR_TRUNCATE,
    }
}

/// Nothing is synced in truth: the machine that runs the test keeps its power.
unsafe extern "C" fn sync(file: *mut sqlite3_file, _: c_int) -> c_int {
    // SAFETY: the file is ours.
    let ours = unsafe { ours(file) };
    ours.disk.sync(&ours.name).map_or(SQLITE_IOERR_FSYNC, |()| SQLITE_OK)
}

unsafe extern "C" fn delete(_: *mut sqlite3_vfs, path: *const c_char, sync_dir: c_int) -> c_int {
    // SAFETY: SQLite gives the path of the file.
    if let Some((disk, name)) = unsafe { disk(path) }
        && disk.delete(&name, sync_dir != 0).is_err()
    {
        return SQLITE_IOERR_DELETE;
    }
    let own = own();
    // SAFETY: the arguments are SQLite's own.
    unsafe { (*own.vfs).xDelete.unwrap()(own.vfs, path, sync_dir) }
}
