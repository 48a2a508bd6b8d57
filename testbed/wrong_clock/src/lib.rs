//! Wrong system clock for one process: preloaded by the dynamic linker (`LD_PRELOAD`), it replaces
//! the function of the C library. Monotonic clocks are correct, as after a change of the system time.

#![expect(unsafe_code, reason = "it replaces a function of the C library")]

use std::env;
use std::ffi::c_int;
use std::sync::OnceLock;

use libc::{CLOCK_REALTIME, SYS_clock_gettime, clockid_t, syscall, time_t, timespec};

/// Environment variable with the number of seconds that the clock is ahead; negative if behind.
const VARIABLE: &str = "DUCKTIDE_WRONG_CLOCK_SECONDS";

/// Returns the time as `clock_gettime(2)` does, with the wrong system time.
///
/// # Safety
/// `time` must be valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    // SAFETY: the kernel checks the pointer, and writes to it only if it is valid.
    let result = unsafe { syscall(SYS_clock_gettime, clock, time) };
    if result == 0 && clock == CLOCK_REALTIME {
        // SAFETY: the kernel has written it.
        unsafe { (*time).tv_sec += seconds_ahead() };
    }
    c_int::try_from(result).unwrap_or(-1)
}

fn seconds_ahead() -> time_t {
    static AHEAD: OnceLock<time_t> = OnceLock::new();
    let read = || env::var(VARIABLE).ok().and_then(|seconds| seconds.parse().ok());
    *AHEAD.get_or_init(|| read().unwrap_or(0))
}
