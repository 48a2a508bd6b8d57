//! Waits for conditions.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

/// Time between two checks. Short, so that a fault which follows a condition hits the intended
/// moment.
const PAUSE: Duration = Duration::from_millis(2);

/// Waits until the condition holds. An error of the condition counts as false: the checked service
/// may be starting.
pub fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let result = holds();
        if let Ok(true) = result {
            return Ok(());
        }
        if Instant::now() >= deadline {
            result.with_context(|| format!("wait until {what}: not within {limit:?}"))?;
            ensure!(false, "wait until {what}: not within {limit:?}");
        }
        thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn a_condition_that_never_holds_is_named() {
        let error = until("pigs fly", Duration::ZERO, || Ok(false)).unwrap_err();
        assert!(error.to_string().contains("pigs fly"), "{error}");
    }

    #[test]
    fn the_last_error_is_reported() {
        let error = until("it answers", Duration::ZERO, || Err(anyhow!("refused"))).unwrap_err();
        assert!(format!("{error:#}").contains("refused"), "{error:#}");
    }

    #[test]
    fn errors_before_the_condition_holds_are_ignored() {
        let mut checks = 0;
        let result = until("the third check", Duration::from_secs(10), || {
            checks += 1;
            if checks < 3 { Err(anyhow!("not yet")) } else { Ok(true) }
        });
        assert!(result.is_ok());
    }
}
