//! A clock that is hours off, for one process: preloaded by the dynamic linker (`LD_PRELOAD`), it
//! stands before the C library's. Monotonic clocks stay as they are, as when somebody sets the time.

#![expect(unsafe_code, reason = "it takes the place of a function of the C library")]

use std::env;
use std::ffi::c_int;
use std::sync::OnceLock;

use libc::{CLOCK_REALTIME, SYS_clock_gettime, clockid_t, syscall, time_t, timespec};

/// How many seconds the clock is ahead; negative when it is behind.
const VARIABLE: &str = "DUCKTIDE_WRONG_CLOCK_SECONDS";

/// As in `man 2 clock_gettime`.
///
/// # Safety
/// `time` must be valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    // SAFETY: the kernel checks the pointer by itself, and writes it only if it is valid.
    let result = unsafe { syscall(SYS_clock_gettime, clock, time) };
    if result == 0 && clock == CLOCK_REALTIME {
        // SAFETY: the kernel has just written it.
        unsafe { (*time).tv_sec += seconds_ahead() };
    }
    c_int::try_from(result).unwrap_or(-1)
}

fn seconds_ahead() -> time_t {
    static AHEAD: OnceLock<time_t> = OnceLock::new();
    let read = || env::var(VARIABLE).ok().and_then(|seconds| seconds.parse().ok());
    *AHEAD.get_or_init(|| read().unwrap_or(0))
}
