//! Waits for conditions, never for luck.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

/// Between two looks: short enough that a fault which follows a condition still hits the moment.
const PAUSE: Duration = Duration::from_millis(2);

/// Waits until the condition holds. An error of the condition counts as "not yet": what is looked
/// at may not exist so far, or be restarting.
pub fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let looked = holds();
        if let Ok(true) = looked {
            return Ok(());
        }
        if Instant::now() >= deadline {
            looked.with_context(|| format!("wait until {what}: not within {limit:?}"))?;
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
    fn the_last_error_is_told() {
        let error = until("it answers", Duration::ZERO, || Err(anyhow!("refused"))).unwrap_err();
        assert!(format!("{error:#}").contains("refused"), "{error:#}");
    }

    #[test]
    fn errors_before_the_condition_holds_are_nothing() {
        let mut looks = 0;
        let looked = until("the third look", Duration::from_secs(10), || {
            looks += 1;
            if looks < 3 { Err(anyhow!("not yet")) } else { Ok(true) }
        });
        assert!(looked.is_ok());
    }
}
