//! Calls of librdkafka about tokens, which the `rdkafka` crate does not wrap.
#![expect(unsafe_code, reason = "this is the module that speaks to the C library")]

use std::ffi::{CStr, CString, c_char};
use std::ptr;

use rdkafka::bindings as rdsys;
use rdkafka::client::{Client, ClientContext, OAuthToken};
use rdkafka::types::{RDKafka, RDKafkaRespErr};

use crate::oauth::{OAuthError, OAuthTokens, Token};

impl From<Token> for OAuthToken {
    fn from(token: Token) -> Self {
        Self {
            token: token.value.expose().to_owned(),
            principal_name: token.principal,
            lifetime_ms: token.expires_ms,
        }
    }
}

/// Gives a client a token, if one is used. Call it before requests of a client that is not polled:
/// the requests for tokens that it sends itself are not answered.
pub fn authenticate<C: ClientContext>(
    client: &Client<C>,
    tokens: Option<&OAuthTokens>,
) -> Result<(), OAuthError> {
    let Some(tokens) = tokens else { return Ok(()) };
    let token = tokens.token()?;
    // SAFETY: the client lives as long as the reference.
    unsafe { set_token(client.native_ptr(), &token) }.map_err(OAuthError::NotAToken)
}

/// Answers a client that needs a token, with the token or with the reason of its absence.
///
/// # Safety
/// The client is valid.
pub unsafe fn answer_refresh(rk: *mut RDKafka, tokens: &OAuthTokens) {
    let given = tokens.token().map_err(|error| error.to_string());
    // SAFETY: as the caller says.
    let given = given.and_then(|token| unsafe { set_token(rk, &token) });
    let Err(reason) = given else { return };
    let reason = CString::new(reason.replace('\0', " ")).expect("NUL was replaced");
    // SAFETY: as the caller says; the call copies the text.
    unsafe { rdsys::rd_kafka_oauthbearer_set_token_failure(rk, reason.as_ptr()) };
}

/// # Safety
/// The client is valid.
unsafe fn set_token(rk: *mut RDKafka, token: &Token) -> Result<(), String> {
    let text = |text: &str| CString::new(text).map_err(|_| "token contains NUL".to_owned());
    let (value, principal) = (text(token.value.expose())?, text(&token.principal)?);
    let mut error: [c_char; 512] = [0; 512];
    // SAFETY: as the caller says; the call copies the texts, and ends the error with a NUL.
    let (code, reason) = unsafe {
        let code = rdsys::rd_kafka_oauthbearer_set_token(
            rk,
            value.as_ptr(),
            token.expires_ms,
            principal.as_ptr(),
            ptr::null_mut(),
            0,
            error.as_mut_ptr(),
            error.len(),
        );
        (code, CStr::from_ptr(error.as_ptr()).to_string_lossy().into_owned())
    };
    match code {
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        // Some of librdkafka's messages repeat the token.
        _ if reason.contains(token.value.expose()) => {
            Err("token has invalid characters".to_owned())
        }
        _ => Err(reason),
    }
}
