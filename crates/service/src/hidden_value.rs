//! Settings that may hold a password.

use std::ffi::OsStr;

use clap::builder::TypedValueParser;
use clap::{Arg, Command};

/// Parser of a setting that may hold a password: unlike clap's own errors, its errors omit the value.
#[derive(Clone, Debug)]
pub struct HiddenValue<T>(pub fn(&str) -> Result<T, String>);

impl<T: Clone + Send + Sync + 'static> TypedValueParser for HiddenValue<T> {
    type Value = T;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<Self::Value, clap::Error> {
        let parsed = value.to_str().ok_or_else(|| "the value is not UTF-8".to_owned());
        parsed.and_then(self.0).map_err(|reason| {
            let flag = arg.and_then(Arg::get_long).unwrap_or_default();
            let variable = arg.and_then(Arg::get_env).unwrap_or_default().display();
            let text = format!("--{flag} ({variable}): {reason}\n");
            clap::Error::raw(clap::error::ErrorKind::ValueValidation, text).with_cmd(command)
        })
    }
}
