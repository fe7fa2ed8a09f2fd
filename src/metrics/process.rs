//! The process as the kernel sees it.

use super::page::Page;

/// Of Linux alone: elsewhere the figures are left out.
pub(super) fn write(page: &mut Page, started_ms: i64) {
    #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are exact for long enough")]
    let started = started_ms as f64 / 1e3;
    page.gauge("process_start_time_seconds", "When the daemon was started, in seconds since 1970.")
        .value(&[], started);
    if let Some(resident) = resident_pages() {
        let bytes = resident * rustix::param::page_size() as u64;
        page.gauge("process_resident_memory_bytes", "Memory that the process has.").value(&[], bytes);
    }
    if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
        // One of them is this look.
        let open = files.count().saturating_sub(1);
        page.gauge("process_open_fds", "Files and sockets that are open.").value(&[], open);
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    if let Some(limit) = limit {
        page.gauge("process_max_fds", "Files and sockets that may be open.").value(&[], limit);
    }
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    #[expect(clippy::cast_precision_loss, reason = "seconds for people")]
    let used = used.tv_sec as f64 + used.tv_nsec as f64 / 1e9;
    page.counter("process_cpu_seconds_total", "Processor time used.").value(&[], used);
}

fn resident_pages() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    text.split_whitespace().nth(1)?.parse().ok()
}
