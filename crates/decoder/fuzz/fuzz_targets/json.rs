//! Decodes arbitrary bytes as a JSON object, for a table with a column of each type.

#![no_main]

use std::cell::RefCell;

use ducktide_fuzz::FuzzTarget;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static TARGET: RefCell<FuzzTarget> = RefCell::new(FuzzTarget::json());
}

fuzz_target!(|value: &[u8]| {
    TARGET.with_borrow_mut(|target| target.check_value(value));
});
