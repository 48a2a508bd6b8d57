//! Upload of one object while it is written.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};

use object_store::multipart::PartId;
use object_store::path::Path as Key;
use object_store::{Error, MultipartId, ObjectStoreExt as _, PutPayload};

use super::error::StoreErrors;
use super::repeated;
use super::runtime::{receive, start, wait};
use super::store::Requests;

/// Size of each part but the last, bytes. Stores want at least 5 MiB and at most 10,000 parts.
const PART_BYTES: usize = 8 << 20;

/// Maximum number of parts that are being sent while the next one fills.
const PARTS_IN_FLIGHT: usize = 2;

/// Upload of one object. An object of less than one part is sent as a whole.
pub(crate) struct Upload {
    store: Arc<dyn Requests>,
    errors: StoreErrors,
    key: Key,
    path: PathBuf,
    buffer: Vec<u8>,
    /// Bytes of all parts that were started.
    sent: u64,
    /// Identifier of the multipart upload, from the first part to the end.
    id: Option<MultipartId>,
    in_flight: VecDeque<Receiver<Result<PartId, Error>>>,
    parts: Vec<PartId>,
    /// Number of parts that were started.
    started: usize,
}

impl Upload {
    pub(super) fn new(
        store: Arc<dyn Requests>,
        errors: StoreErrors,
        key: Key,
        path: PathBuf,
    ) -> Self {
        Self {
            store,
            errors,
            key,
            path,
            buffer: Vec::new(),
            sent: 0,
            id: None,
            in_flight: VecDeque::new(),
            parts: Vec::new(),
            started: 0,
        }
    }

    pub(crate) fn memory(&self) -> usize {
        self.buffer.capacity() + self.in_flight.len() * PART_BYTES
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PART_BYTES - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        if self.buffer.len() == PART_BYTES {
            self.send_part()?;
        }
        Ok(count)
    }

    /// Completes the object. It is durable afterwards.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        let Some(id) = self.id.clone() else { return self.put() };
        if !self.buffer.is_empty() {
            self.send_part()?;
        }
        while let Some(part) = self.in_flight.pop_front() {
            self.take_part(&part)?;
        }
        let (store, key) = (Arc::clone(&self.store), self.key.clone());
        let parts = std::mem::take(&mut self.parts);
        let completed = wait(async move { store.complete_multipart(&key, &id, parts).await })?;
        match completed {
            Err(error) if !self.is_complete()? => {
                Err(self.errors.failed("POST", &self.path, &error))
            }
            _ => {
                self.id = None;
                Ok(())
            }
        }
    }

    /// Aborts the upload, and waits for the store's answer.
    pub(crate) fn abort(&mut self) -> io::Result<()> {
        let Some(aborted) = self.start_abort()? else { return Ok(()) };
        match receive(&aborted)? {
            // Aborted, or completed although the answer was lost.
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.errors.failed("DELETE", &self.path, &error)),
        }
    }

    /// Sends an object of less than one part. The content of the key is always the same, so that the client
    /// can repeat the request.
    fn put(&mut self) -> io::Result<()> {
        let content = PutPayload::from(std::mem::take(&mut self.buffer));
        let (store, key) = (Arc::clone(&self.store), self.key.clone());
        let put = wait(async move { store.put(&key, content).await })?;
        put.map(drop).map_err(|error| self.errors.failed("PUT", &self.path, &error))
    }

    fn send_part(&mut self) -> io::Result<()> {
        let id = if let Some(id) = &self.id {
            id.clone()
        } else {
            let (store, key) = (Arc::clone(&self.store), self.key.clone());
            let created = wait(async move { repeated(|| store.create_multipart(&key)).await })?;
            let id = created.map_err(|error| self.errors.failed("POST", &self.path, &error))?;
            self.id.insert(id).clone()
        };
        self.take_completed()?;
        if self.in_flight.len() >= PARTS_IN_FLIGHT
            && let Some(oldest) = self.in_flight.pop_front()
        {
            self.take_part(&oldest)?;
        }
        self.sent += self.buffer.len() as u64;
        let (content, index) = (std::mem::take(&mut self.buffer).into(), self.started);
        let (store, key) = (Arc::clone(&self.store), self.key.clone());
        self.in_flight
            .push_back(start(async move { store.put_part(&key, &id, index, content).await })?);
        self.started += 1;
        Ok(())
    }

    /// Takes the answers that have arrived, in the order of the parts.
    fn take_completed(&mut self) -> io::Result<()> {
        while let Some(oldest) = self.in_flight.front() {
            match oldest.try_recv() {
                Ok(answer) => self.add_part(answer)?,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Err(io::Error::other("a part was lost")),
            }
            self.in_flight.pop_front();
        }
        Ok(())
    }

    fn take_part(&mut self, part: &Receiver<Result<PartId, Error>>) -> io::Result<()> {
        self.add_part(receive(part)?)
    }

    fn add_part(&mut self, answer: Result<PartId, Error>) -> io::Result<()> {
        self.parts.push(answer.map_err(|error| self.errors.failed("PUT", &self.path, &error))?);
        Ok(())
    }

    /// Returns whether the object exists with its whole size, although the answer says otherwise: a repeated
    /// request to complete an upload fails if the first one was carried out.
    fn is_complete(&self) -> io::Result<bool> {
        let (store, key) = (Arc::clone(&self.store), self.key.clone());
        let found = wait(async move { store.head(&key).await })?;
        Ok(found.is_ok_and(|found| found.size == self.sent))
    }

    fn start_abort(&mut self) -> io::Result<Option<Receiver<Result<(), Error>>>> {
        self.buffer = Vec::new();
        let Some(id) = self.id.take() else { return Ok(None) };
        // A part that arrives after the abort would stay.
        let in_flight = std::mem::take(&mut self.in_flight);
        let (store, key) = (Arc::clone(&self.store), self.key.clone());
        for part in in_flight {
            let _ = part.recv();
        }
        start(async move { store.abort_multipart(&key, &id).await }).map(Some)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // The orphan removal aborts an upload that this does not abort.
        let _ = self.start_abort();
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").field("path", &self.path).finish_non_exhaustive()
    }
}
