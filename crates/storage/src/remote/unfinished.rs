//! Unfinished multipart uploads of a bucket, left by a process that was killed while it wrote a file. Their
//! parts cost money, and no listing of objects shows them. S3 and Google Cloud Storage list them in one
//! format.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::SystemTime;

use http::{Request, StatusCode, header};
use jiff::Timestamp;
use object_store::client::HttpClient;
use object_store::signer::Url;
use serde::Deserialize;

use super::error::StoreErrors;
use super::runtime::wait;

/// Parameters of a request.
pub(super) type Query = Vec<(String, String)>;

/// Request for a page of uploads.
pub(super) struct PageRequest {
    /// URL of the bucket, with the parameters of the page.
    pub(super) url: Url,
    /// Token of the header `Authorization`. None if the URL is signed.
    pub(super) token: Option<String>,
}

/// Unfinished multipart upload.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct UnfinishedUpload {
    pub(super) key: String,
    pub(super) upload_id: String,
    initiated: String,
}

impl UnfinishedUpload {
    /// Returns whether the upload was begun before a time; false if its own time is not understood.
    pub(super) fn is_older_than(&self, time: SystemTime) -> bool {
        let (begun, time) = (self.initiated.parse::<Timestamp>(), Timestamp::try_from(time));
        begun.is_ok_and(|begun| time.is_ok_and(|time| begun < time))
    }
}

/// Page of the answer to `ListMultipartUploads`:
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html>.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Page {
    #[serde(rename = "Upload")]
    uploads: Vec<UnfinishedUpload>,
    is_truncated: bool,
    next_key_marker: String,
    next_upload_id_marker: String,
}

/// Lists the unfinished uploads of keys with a prefix. `request_of` adds URL and authorization to the
/// parameters of a page.
pub(super) fn list(
    http: &HttpClient,
    errors: StoreErrors,
    (prefix, at): (&str, &Path),
    request_of: &dyn Fn(Query) -> io::Result<PageRequest>,
) -> io::Result<Vec<UnfinishedUpload>> {
    let mut found = Vec::new();
    let mut markers = Vec::new();
    loop {
        let mut query = vec![("uploads".to_owned(), String::new())];
        query.push(("prefix".to_owned(), prefix.to_owned()));
        query.append(&mut markers);
        let page = read_page(http, errors, at, request_of(query)?)?;
        found.extend(page.uploads);
        if !page.is_truncated || page.next_key_marker.is_empty() {
            return Ok(found);
        }
        markers = vec![
            ("key-marker".to_owned(), page.next_key_marker),
            ("upload-id-marker".to_owned(), page.next_upload_id_marker),
        ];
    }
}

/// Operation in error texts.
pub(super) const OPERATION: &str = "LIST uploads";

fn read_page(
    http: &HttpClient,
    errors: StoreErrors,
    at: &Path,
    request: PageRequest,
) -> io::Result<Page> {
    let http = http.clone();
    let answer = wait(async move { get(&http, request).await })?;
    let (status, text) =
        answer.map_err(|error| errors.answered(OPERATION, at, &error.to_string()))?;
    if !status.is_success() {
        return Err(errors.answered(OPERATION, at, &format!("{status}: {text}")));
    }
    let page = quick_xml::de::from_str(&text);
    page.map_err(|error| io::Error::new(ErrorKind::InvalidData, format!("{OPERATION}: {error}")))
}

type GetError = Box<dyn std::error::Error + Send + Sync>;

async fn get(http: &HttpClient, page: PageRequest) -> Result<(StatusCode, String), GetError> {
    let mut request = Request::get(page.url.as_str());
    if let Some(token) = page.token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let response = http.execute(request.body(Vec::new().into())?).await?;
    let status = response.status();
    let bytes = response.into_body().bytes().await?;
    Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_page_of_the_reference_is_parsed() {
        let text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
            <ListMultipartUploadsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
            <Bucket>bucket</Bucket><KeyMarker/><UploadIdMarker/>\
            <NextKeyMarker>lake/f</NextKeyMarker><NextUploadIdMarker>u1</NextUploadIdMarker>\
            <MaxUploads>2</MaxUploads><IsTruncated>true</IsTruncated>\
            <Upload><Key>lake/e</Key><UploadId>u0</UploadId><StorageClass>STANDARD</StorageClass>\
            <Initiated>2010-11-10T20:48:33.000Z</Initiated></Upload>\
            <Upload><Key>lake/f</Key><UploadId>u1</UploadId>\
            <Initiated>2010-11-10T20:48:34.000Z</Initiated></Upload>\
            </ListMultipartUploadsResult>";

        let page: Page = quick_xml::de::from_str(text).unwrap();

        assert!(page.is_truncated);
        assert_eq!((page.next_key_marker.as_str(), page.uploads.len()), ("lake/f", 2));
        let begun = SystemTime::UNIX_EPOCH + Duration::from_secs(1_289_422_113);
        assert!(page.uploads[0].is_older_than(begun + Duration::from_secs(1)));
        assert!(!page.uploads[0].is_older_than(begun));
    }
}
