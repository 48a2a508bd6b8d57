//! Calls of librdkafka that the `rdkafka` crate does not wrap: batches of records whose payloads are read
//! in place, and ends of partitions and errors with topic, partition and offset.
//!
//! `rd_kafka_consume_batch_queue` takes a third of the time of a call for each record. Rebalances are
//! callbacks from within that call, on the poll thread.
#![expect(unsafe_code, reason = "this is the module that speaks to the C library")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem;
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ducktide_kafka::oauth::OAuthTokens;
use ducktide_kafka::token_ffi::answer_refresh;
use ducktide_protocol::dead_letter::Header;
use ducktide_protocol::failpoint::{self, Failpoint};
use ducktide_protocol::position::Offset;
use ducktide_service::telemetry;
use rdkafka::bindings as rdsys;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset as ListOffset, TopicPartitionList};
use rdkafka::types::{RDKafka, RDKafkaConfRes, RDKafkaMessage, RDKafkaRespErr, RDKafkaType};

use super::client::{KafkaClient, PolledItem};
use super::cluster_error::FailureContext;
use super::record::KafkaRecord;
use super::topic_partition::TopicPartition;
use super::wake_signal::WakeSignal;
use crate::clock::Clock;
use crate::source::kafka_config::{ConsumerConfig, check_owned};

/// Receives the rebalances of this member, on the poll thread, from within a poll.
pub(crate) trait RebalanceListener: Send {
    /// Handles assigned partitions, none of which is fetched yet.
    fn assigned(&self, partitions: Vec<TopicPartition>);

    /// Handles revoked partitions, which are given up when this returns. If they are `lost`, another member
    /// may already read them. Returns those that are being fetched.
    fn revoked(&self, partitions: Vec<TopicPartition>, lost: bool) -> Vec<TopicPartition>;
}

/// State of the callbacks. Its address is the client's opaque pointer.
struct Callbacks {
    listener: Box<dyn RebalanceListener>,
    tokens: Option<Arc<OAuthTokens>>,
    /// Set when the consumer's queue is no longer empty.
    wake: WakeSignal,
}

/// A member of a consumer group.
pub(crate) struct NativeConsumer {
    client: Arc<NativeClient>,
    queue: NonNull<rdsys::rd_kafka_queue_t>,
}

/// The C client, destroyed with its last owner, because records point into its buffers.
#[derive(Debug)]
struct NativeClient {
    client: NonNull<RDKafka>,
    callbacks: NonNull<Callbacks>,
}

// SAFETY: librdkafka's client may be used and destroyed from any thread. The listener, which is not
// Sync, is called only inside calls that `NativeConsumer` makes, and that is neither Sync nor cloned.
// Other callbacks are Sync.
unsafe impl Send for NativeClient {}
// SAFETY: as above; records on other threads only keep the client alive.
unsafe impl Sync for NativeClient {}

impl NativeClient {
    /// Returns a value of the client's configuration, which includes that of its topics.
    fn setting(&self, name: &str) -> Option<String> {
        let name = CString::new(name).ok()?;
        // SAFETY: the client is valid, and its configuration lives as long. The first call writes how
        // long the text is with its NUL, the second the text.
        let text = unsafe {
            let config = rdsys::rd_kafka_conf(self.client.as_ptr());
            let mut size = 0;
            let found =
                rdsys::rd_kafka_conf_get(config, name.as_ptr(), ptr::null_mut(), &raw mut size);
            if found != RDKafkaConfRes::RD_KAFKA_CONF_OK {
                return None;
            }
            let mut text = vec![0_u8; size];
            rdsys::rd_kafka_conf_get(
                config,
                name.as_ptr(),
                text.as_mut_ptr().cast(),
                &raw mut size,
            );
            text
        };
        let text = CStr::from_bytes_until_nul(&text).ok()?;
        Some(text.to_string_lossy().into_owned())
    }
}

impl Drop for NativeClient {
    fn drop(&mut self) {
        // SAFETY: this is the last owner; the consumer's queue and all records are gone, since each
        // of them holds an `Arc` of this client.
        unsafe {
            rdsys::rd_kafka_destroy_flags(
                self.client.as_ptr(),
                rdsys::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE,
            );
            drop(Box::from_raw(self.callbacks.as_ptr()));
        }
    }
}

// SAFETY: the queue may be polled from any one thread; the consumer is not Sync. The listener moves
// to that thread with it, so it has to be Send.
unsafe impl Send for NativeConsumer {}

impl NativeConsumer {
    pub(crate) fn new(
        config: &ConsumerConfig,
        listener: Box<dyn RebalanceListener>,
        wake: WakeSignal,
    ) -> KafkaResult<Self> {
        let native = config.client.create_native_config()?;
        let tokens = config.tokens.clone();
        let needs_tokens = tokens.is_some();
        let callbacks = NonNull::from(Box::leak(Box::new(Callbacks { listener, tokens, wake })));
        let mut text: [c_char; 512] = [0; 512];
        // SAFETY: the configuration is valid; librdkafka takes it over if, and only if, it returns a
        // client. The callbacks live until after the client is destroyed.
        let client = unsafe {
            rdsys::rd_kafka_conf_set_opaque(native.ptr(), callbacks.as_ptr().cast());
            rdsys::rd_kafka_conf_set_rebalance_cb(native.ptr(), Some(on_rebalance));
            rdsys::rd_kafka_conf_set_error_cb(native.ptr(), Some(on_error));
            rdsys::rd_kafka_conf_set_log_cb(native.ptr(), Some(on_log));
            if needs_tokens {
                rdsys::rd_kafka_conf_set_oauthbearer_token_refresh_cb(
                    native.ptr(),
                    Some(on_token_refresh),
                );
                rdsys::rd_kafka_conf_enable_sasl_queue(native.ptr(), 1);
            }
            let kind = RDKafkaType::RD_KAFKA_CONSUMER;
            rdsys::rd_kafka_new(kind, native.ptr(), text.as_mut_ptr(), text.len())
        };
        let Some(client) = NonNull::new(client) else {
            // SAFETY: no client was created, so there is no other owner of the address; the text ends with
            // a NUL.
            let text = unsafe {
                drop(Box::from_raw(callbacks.as_ptr()));
                CStr::from_ptr(text.as_ptr()).to_string_lossy().into_owned()
            };
            return Err(KafkaError::ClientCreation(text));
        };
        mem::forget(native);
        let client = Arc::new(NativeClient { client, callbacks });
        check_owned(&config.owned, |name| client.setting(name))
            .map_err(KafkaError::ClientCreation)?;
        if needs_tokens {
            // SAFETY: the client is valid. Requests for tokens are answered by its own thread, so that a
            // slow server delays no poll.
            unsafe {
                destroy_error(rdsys::rd_kafka_sasl_background_callbacks_enable(
                    client.client.as_ptr(),
                ));
            }
        }
        // SAFETY: the client is valid. Its other events come through the consumer's queue.
        let queue = unsafe {
            rdsys::rd_kafka_poll_set_consumer(client.client.as_ptr());
            rdsys::rd_kafka_queue_get_consumer(client.client.as_ptr())
        };
        let queue = NonNull::new(queue)
            .ok_or_else(|| KafkaError::ClientCreation("a consumer needs a group.id".to_owned()))?;
        // SAFETY: the queue is valid, and the callbacks outlive the client and its queue.
        unsafe {
            rdsys::rd_kafka_queue_cb_event_enable(
                queue.as_ptr(),
                Some(on_queue_filled),
                callbacks.as_ptr().cast(),
            );
        }
        Ok(Self { client, queue })
    }

    fn ptr(&self) -> *mut RDKafka {
        self.client.client.as_ptr()
    }

    fn polled(&self, message: NonNull<RDKafkaMessage>) -> PolledItem<Record> {
        let record = Record { message };
        match record.raw().err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => PolledItem::Record(record),
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF => {
                PolledItem::EndOfPartition(record.topic_partition(), record.offset())
            }
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__FATAL => self.fatal(),
            error => {
                let partition = (!record.raw().rkt.is_null()).then(|| record.topic_partition());
                PolledItem::Error(partition, error.into(), record.text())
            }
        }
    }

    fn fatal(&self) -> PolledItem<Record> {
        let mut text: [c_char; 512] = [0; 512];
        // SAFETY: the buffer is as long as it says, and ends with a NUL afterwards.
        let (code, text) = unsafe {
            let code = rdsys::rd_kafka_fatal_error(self.ptr(), text.as_mut_ptr(), text.len());
            (code, CStr::from_ptr(text.as_ptr()).to_string_lossy().into_owned())
        };
        match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID => PolledItem::NameTaken,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNRELEASED_INSTANCE_ID => PolledItem::NameHeld,
            _ => PolledItem::Fatal(text),
        }
    }
}

impl KafkaClient for NativeConsumer {
    type Record = Record;

    fn subscribe(&mut self, topics: &[String]) -> KafkaResult<()> {
        let mut list = TopicPartitionList::new();
        for topic in topics {
            list.add_topic_unassigned(topic);
        }
        // SAFETY: both pointers are valid for the call.
        check(unsafe { rdsys::rd_kafka_subscribe(self.ptr(), list.ptr()) })
            .map_err(|code| KafkaError::Subscription(code.to_string()))
    }

    fn unsubscribe(&mut self) {
        // SAFETY: the client is valid. The call fails only for a client that is no consumer.
        unsafe { rdsys::rd_kafka_unsubscribe(self.ptr()) };
    }

    fn is_member(&self) -> bool {
        // SAFETY: the client is valid; the object is null or valid, and destroyed once.
        unsafe {
            let found = rdsys::rd_kafka_consumer_group_metadata(self.ptr());
            if found.is_null() {
                return false;
            }
            let generation = rdsys::rd_kafka_consumer_group_metadata_generation_id(found);
            rdsys::rd_kafka_consumer_group_metadata_destroy(found);
            generation > 0
        }
    }

    fn has_left(&self) -> bool {
        // SAFETY: the client is valid; the text is null or a C string, and freed once.
        unsafe {
            let id = rdsys::rd_kafka_memberid(self.ptr());
            let has_left = id.is_null() || *id == 0;
            if !id.is_null() {
                rdsys::rd_kafka_mem_free(self.ptr(), id.cast());
            }
            has_left
        }
    }

    fn poll(&mut self, timeout: Duration, limit: usize) -> Vec<PolledItem<Record>> {
        let mut pointers: Vec<*mut RDKafkaMessage> = Vec::with_capacity(limit);
        let timeout_ms = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: the array has room for `limit` pointers, of which the call writes as many as it
        // says; each of them is ours to destroy.
        unsafe {
            let count = rdsys::rd_kafka_consume_batch_queue(
                self.queue.as_ptr(),
                timeout_ms,
                pointers.as_mut_ptr(),
                limit,
            );
            pointers.set_len(usize::try_from(count).unwrap_or(0));
        }
        pointers.into_iter().filter_map(NonNull::new).map(|message| self.polled(message)).collect()
    }

    fn fetch(&mut self, starts: &[(TopicPartition, Offset)]) {
        let list = offsets(starts);
        // SAFETY: both pointers are valid for the call, which copies the list.
        unsafe { destroy_error(rdsys::rd_kafka_incremental_assign(self.ptr(), list.ptr())) };
    }

    fn stop_fetching(&mut self, partitions: &[TopicPartition]) {
        if partitions.is_empty() {
            return;
        }
        let list = names(partitions);
        // SAFETY: both pointers are valid for the calls, which copy the list.
        unsafe { stop_fetching(self.ptr(), &list) };
    }

    fn pause(&mut self, partitions: &[TopicPartition]) {
        let list = names(partitions);
        // SAFETY: both pointers are valid for the call. It fails only for unknown partitions.
        unsafe { rdsys::rd_kafka_pause_partitions(self.ptr(), list.ptr()) };
    }

    fn resume(&mut self, partitions: &[TopicPartition]) {
        let list = names(partitions);
        // SAFETY: as for `pause`.
        unsafe { rdsys::rd_kafka_resume_partitions(self.ptr(), list.ptr()) };
    }

    fn mirror_offsets(&mut self, positions: &[(TopicPartition, Offset)]) {
        let list = offsets(positions);
        // SAFETY: both pointers are valid for the call, which copies the list.
        unsafe { rdsys::rd_kafka_commit(self.ptr(), list.ptr(), 1) };
    }

    fn close(&mut self) {
        // SAFETY: the client is valid; callbacks run inside this call.
        unsafe { rdsys::rd_kafka_consumer_close(self.ptr()) };
    }

    fn keep_alive(&self) -> KeepAlive {
        KeepAlive { _client: Arc::clone(&self.client) }
    }
}

impl Drop for NativeConsumer {
    fn drop(&mut self) {
        // SAFETY: the reference that `rd_kafka_queue_get_consumer` gave is returned once.
        unsafe { rdsys::rd_kafka_queue_destroy(self.queue.as_ptr()) };
    }
}

/// Handle that is held together with records outside the poll thread.
#[derive(Clone, Debug)]
pub(crate) struct KeepAlive {
    _client: Arc<NativeClient>,
}

/// A record in librdkafka's own buffer.
pub(crate) struct Record {
    message: NonNull<RDKafkaMessage>,
}

// SAFETY: librdkafka's messages are reference counted with atomics and may be read and destroyed on
// any thread while the client lives, which `KeepAlive` sees to.
unsafe impl Send for Record {}

impl Record {
    fn raw(&self) -> &RDKafkaMessage {
        // SAFETY: valid until dropped, and not written to meanwhile.
        unsafe { self.message.as_ref() }
    }

    fn raw_headers(&self) -> Option<*const rdsys::rd_kafka_headers_t> {
        let mut headers = ptr::null_mut();
        // SAFETY: the message is valid. The first call parses the headers into a part of the message
        // that no reference of ours points to; no other thread has the record, as it is not Sync.
        let code =
            unsafe { rdsys::rd_kafka_message_headers(self.message.as_ptr(), &raw mut headers) };
        (code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).then_some(headers.cast_const())
    }

    /// Returns the text of an error message.
    fn text(&self) -> String {
        self.payload().map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default()
    }
}

impl KafkaRecord for Record {
    type KeepAlive = KeepAlive;

    fn offset(&self) -> Offset {
        Offset(self.raw().offset)
    }

    fn topic_partition(&self) -> TopicPartition {
        // SAFETY: a record or an end of partition has a topic, whose name is a C string.
        let topic = unsafe { CStr::from_ptr(rdsys::rd_kafka_topic_name(self.raw().rkt)) };
        TopicPartition::new(&topic.to_string_lossy(), self.raw().partition)
    }

    fn timestamp_ms(&self) -> Option<i64> {
        // SAFETY: the message is valid; the type of the timestamp is not requested.
        let millis =
            unsafe { rdsys::rd_kafka_message_timestamp(self.message.as_ptr(), ptr::null_mut()) };
        (millis >= 0).then_some(millis)
    }

    fn key(&self) -> Option<&[u8]> {
        let raw = self.raw();
        // SAFETY: the key has `key_len` bytes, which live as long as the message.
        (!raw.key.is_null())
            .then(|| unsafe { std::slice::from_raw_parts(raw.key.cast::<u8>(), raw.key_len) })
    }

    fn payload(&self) -> Option<&[u8]> {
        let raw = self.raw();
        // SAFETY: the payload has `len` bytes, which live as long as the message.
        (!raw.payload.is_null())
            .then(|| unsafe { std::slice::from_raw_parts(raw.payload.cast::<u8>(), raw.len) })
    }

    fn headers(&self) -> Vec<Header> {
        let Some(headers) = self.raw_headers() else { return Vec::new() };
        // SAFETY: the headers live as long as the message.
        (0..).map_while(|index| unsafe { header(headers, index) }).collect()
    }

    fn last_header(&self, name: &CStr) -> Option<&[u8]> {
        let headers = self.raw_headers()?;
        let (mut value, mut size) = (ptr::null(), 0);
        // SAFETY: the headers live as long as the message, and so does the value, which has as many bytes
        // as the call says, or is null.
        unsafe {
            let code = rdsys::rd_kafka_header_get_last(
                headers,
                name.as_ptr(),
                &raw mut value,
                &raw mut size,
            );
            (code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && !value.is_null())
                .then(|| std::slice::from_raw_parts(value.cast::<u8>(), size))
        }
    }

    fn follows(&self, other: &Self) -> bool {
        let (this, other) = (self.raw(), other.raw());
        this.offset == other.offset + 1
            && this.rkt == other.rkt
            && this.partition == other.partition
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        // SAFETY: owned by this value alone.
        unsafe { rdsys::rd_kafka_message_destroy(self.message.as_ptr()) };
    }
}

/// Returns the header at an index, if there is one.
///
/// # Safety
/// `headers` are those of a message that lives.
unsafe fn header(headers: *const rdsys::rd_kafka_headers_t, index: usize) -> Option<Header> {
    let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
    // SAFETY: as the caller says; where the call says ok, the name is a C string, and the value has
    // as many bytes as it says, or is null.
    unsafe {
        let code = rdsys::rd_kafka_header_get_all(
            headers,
            index,
            &raw mut name,
            &raw mut value,
            &raw mut size,
        );
        (code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| Header {
            key: CStr::from_ptr(name).to_string_lossy().into_owned(),
            value: (!value.is_null())
                .then(|| std::slice::from_raw_parts(value.cast::<u8>(), size).to_vec()),
        })
    }
}

/// Requests the offsets of partitions, and writes them into the list in place of the requested times. Writes
/// the errors of partitions, which have no offset then, as well; the error of the whole request is
/// returned.
pub(super) fn list_offsets(
    client: &BaseConsumer<FailureContext>,
    wanted: &mut TopicPartitionList,
    timeout: Duration,
) -> Result<(), RDKafkaErrorCode> {
    let timeout_ms = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
    let rk = client.client().native_ptr();
    // SAFETY: client and list are valid; the call returns after its last access to the list.
    check(unsafe { rdsys::rd_kafka_offsets_for_times(rk, wanted.ptr(), timeout_ms) })
}

/// Returns the id of a topic, which changes when the topic is deleted and created again; None if the
/// topic does not exist.
pub(crate) fn topic_id(
    client: &BaseConsumer<FailureContext>,
    topic: &str,
    timeout: Duration,
) -> Result<Option<String>, RDKafkaErrorCode> {
    let name = CString::new(topic).map_err(|_| RDKafkaErrorCode::InvalidTopic)?;
    let timeout_ms = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
    let rk = client.client().native_ptr();
    // SAFETY: each object is created, used while it lives, and destroyed once. The description belongs
    // to the event, so its id is copied before that is destroyed.
    unsafe {
        let mut names = [name.as_ptr()];
        let topics = rdsys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), 1);
        let queue = rdsys::rd_kafka_queue_new(rk);
        rdsys::rd_kafka_DescribeTopics(rk, topics, ptr::null(), queue);
        let event = rdsys::rd_kafka_queue_poll(queue, timeout_ms);
        let id = described_id(event);
        if !event.is_null() {
            rdsys::rd_kafka_event_destroy(event);
        }
        rdsys::rd_kafka_queue_destroy(queue);
        rdsys::rd_kafka_TopicCollection_destroy(topics);
        id
    }
}

/// # Safety
/// `event` is null or a valid event.
unsafe fn described_id(
    event: *mut rdsys::rd_kafka_event_t,
) -> Result<Option<String>, RDKafkaErrorCode> {
    if event.is_null() {
        return Err(RDKafkaErrorCode::OperationTimedOut);
    }
    // SAFETY: the event is valid; a result, its topics and their ids are null or valid with it.
    unsafe {
        check(rdsys::rd_kafka_event_error(event))?;
        let result = rdsys::rd_kafka_event_DescribeTopics_result(event);
        let mut count = 0;
        let topics = rdsys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if topics.is_null() || count == 0 {
            return Ok(None);
        }
        let error = rdsys::rd_kafka_TopicDescription_error(*topics);
        match check(rdsys::rd_kafka_error_code(error)) {
            Err(RDKafkaErrorCode::UnknownTopicOrPartition) => return Ok(None),
            described => described?,
        }
        let id = rdsys::rd_kafka_TopicDescription_topic_id(*topics);
        let text = rdsys::rd_kafka_Uuid_base64str(id);
        Ok((!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned()))
    }
}

fn names(partitions: &[TopicPartition]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition(&partition.topic, partition.partition.0);
    }
    list
}

fn offsets(positions: &[(TopicPartition, Offset)]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(positions.len());
    for (partition, offset) in positions {
        list.add_partition_offset(
            &partition.topic,
            partition.partition.0,
            ListOffset::Offset(offset.0),
        )
        .expect("a list takes any offset of a record");
    }
    list
}

pub(super) fn check(error: RDKafkaRespErr) -> Result<(), RDKafkaErrorCode> {
    match error {
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        error => Err(error.into()),
    }
}

/// # Safety
/// `list` is null or valid.
pub(super) unsafe fn partitions_of(
    list: *mut rdsys::rd_kafka_topic_partition_list_t,
) -> Vec<TopicPartition> {
    if list.is_null() {
        return Vec::new();
    }
    // SAFETY: the list has `cnt` elements, each with a C string as topic.
    unsafe {
        let count = usize::try_from((*list).cnt).unwrap_or(0);
        let elements = std::slice::from_raw_parts((*list).elems, count);
        let named = |element: &rdsys::rd_kafka_topic_partition_t| {
            TopicPartition::new(&CStr::from_ptr(element.topic).to_string_lossy(), element.partition)
        };
        elements.iter().map(named).collect()
    }
}

/// Answers a request for a token, on a thread of the client.
unsafe extern "C" fn on_token_refresh(rk: *mut RDKafka, _: *const c_char, opaque: *mut c_void) {
    // SAFETY: called by librdkafka with a valid client, and the opaque that `new` set. Other threads
    // only read the tokens, too.
    unsafe {
        if let Some(tokens) = &(*opaque.cast::<Callbacks>()).tokens {
            answer_refresh(rk, tokens);
        }
    }
}

/// Handles a rebalance. An assignment is acknowledged at once with an empty list, and its partitions are
/// fetched after the lake has returned their positions.
///
/// The poll thread thus never waits for the lake, which may be unavailable, and start offsets are always
/// absolute. An assignment at a logical offset with a later seek loses records: if the lookup of the
/// logical offset is answered after the seek, librdkafka repeats it half a second later and jumps there
/// without a new version barrier (observed with 2.12.1, `rd_kafka_toppar_handle_Offset`).
unsafe extern "C" fn on_rebalance(
    rk: *mut RDKafka,
    event: RDKafkaRespErr,
    list: *mut rdsys::rd_kafka_topic_partition_list_t,
    opaque: *mut c_void,
) {
    // SAFETY: called by librdkafka with valid arguments, and the opaque that `new` set.
    unsafe {
        let listener = &(*opaque.cast::<Callbacks>()).listener;
        let partitions = partitions_of(list);
        if event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            let nothing = TopicPartitionList::new();
            destroy_error(rdsys::rd_kafka_incremental_assign(rk, nothing.ptr()));
            listener.assigned(partitions);
        } else {
            let is_lost = rdsys::rd_kafka_assignment_lost(rk) != 0;
            let fetched = listener.revoked(partitions, is_lost);
            stop_fetching(rk, &names(&fetched));
            failpoint::reached(Failpoint::PartitionsRevoked);
        }
    }
}

/// Stops fetching partitions. They are resumed first, because a pause outlasts the assignment.
///
/// # Safety
/// The client is valid.
unsafe fn stop_fetching(rk: *mut RDKafka, partitions: &TopicPartitionList) {
    // SAFETY: as the caller says; the calls copy the list.
    unsafe {
        rdsys::rd_kafka_resume_partitions(rk, partitions.ptr());
        destroy_error(rdsys::rd_kafka_incremental_unassign(rk, partitions.ptr()));
    }
}

/// # Safety
/// `error` is null or an error object that is destroyed only here.
unsafe fn destroy_error(error: *mut rdsys::rd_kafka_error_t) {
    if error.is_null() {
        return;
    }
    // SAFETY: as the caller says.
    unsafe {
        let text = CStr::from_ptr(rdsys::rd_kafka_error_string(error)).to_string_lossy();
        tracing::warn!(error = %text, "call of the Kafka client failed");
        rdsys::rd_kafka_error_destroy(error);
    }
}

/// Shortest time between two log lines about an outage, which librdkafka reports several times a second.
const OUTAGE_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Logs an outage. Other errors of connections are in librdkafka's own log, too.
unsafe extern "C" fn on_error(_: *mut RDKafka, code: c_int, reason: *const c_char, _: *mut c_void) {
    static LOGGED_AT: Mutex<Option<Instant>> = Mutex::new(None);
    // SAFETY: librdkafka passes a C string.
    let error = unsafe { CStr::from_ptr(reason) }.to_string_lossy();
    let mut logged_at = LOGGED_AT.lock().unwrap_or_else(PoisonError::into_inner);
    let is_outage = code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN as c_int;
    let now = Clock::system().now();
    if is_outage && logged_at.is_none_or(|at| now - at > OUTAGE_LOG_INTERVAL) {
        *logged_at = Some(now);
        tracing::warn!(%error, "no broker available, retrying");
    } else {
        tracing::debug!(%error, "Kafka client");
    }
}

/// Reports that the consumer's queue is no longer empty. Called by threads of librdkafka, which hold the lock
/// of the queue.
unsafe extern "C" fn on_queue_filled(_: *mut RDKafka, callbacks: *mut c_void) {
    // SAFETY: the callbacks outlive the client, and a reference to this field alone may be shared.
    unsafe { (*callbacks.cast::<Callbacks>()).wake.set() }
}

unsafe extern "C" fn on_log(
    _: *const RDKafka,
    level: c_int,
    facility: *const c_char,
    text: *const c_char,
) {
    // SAFETY: librdkafka passes C strings.
    let (facility, text) = unsafe {
        (CStr::from_ptr(facility).to_string_lossy(), CStr::from_ptr(text).to_string_lossy())
    };
    // Offset commits are for dashboards, and a rebalance may reject them. A fatal error is also polled and
    // logged there.
    let level = if matches!(&*facility, "COMMITFAIL" | "FATAL") { 7 } else { level };
    telemetry::log_librdkafka(level, &facility, &text);
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::ffi::OsStrExt as _;

    use ducktide_kafka::property::{NAMES_WITHOUT_DOT, canonical_name};

    use super::*;

    unsafe extern "C" {
        fn fopen(path: *const c_char, mode: *const c_char) -> *mut c_void;
        fn fclose(file: *mut c_void) -> c_int;
    }

    struct NoListener;

    impl RebalanceListener for NoListener {
        fn assigned(&self, _: Vec<TopicPartition>) {}

        fn revoked(&self, _: Vec<TopicPartition>, _: bool) -> Vec<TopicPartition> {
            Vec::new()
        }
    }

    #[test]
    fn a_client_that_does_not_use_an_owned_value_is_not_created() {
        let mut client = rdkafka::ClientConfig::new();
        client.set("bootstrap.servers", "localhost:1").set("group.id", "g");
        client.set("topic.auto.offset.reset", "latest");
        let wrong = vec![("auto.offset.reset", "error".to_owned())];
        let right = vec![("auto.offset.reset", "largest".to_owned()), ("group.id", "g".to_owned())];

        let refused = NativeConsumer::new(
            &ConsumerConfig { client: client.clone(), owned: wrong, tokens: None },
            Box::new(NoListener),
            WakeSignal::default(),
        );
        let created = NativeConsumer::new(
            &ConsumerConfig { client, owned: right, tokens: None },
            Box::new(NoListener),
            WakeSignal::default(),
        );

        let refused = refused.err().expect("refused").to_string();
        assert!(refused.contains("property=`auto.offset.reset`"), "{refused}");
        assert!(created.is_ok());
    }

    /// librdkafka's own list of its properties, as Markdown.
    fn properties() -> String {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("properties");
        let name = CString::new(path.as_os_str().as_bytes()).expect("no NUL");
        // SAFETY: the strings end with a NUL; the file is open while librdkafka writes to it.
        unsafe {
            let file = fopen(name.as_ptr(), c"w".as_ptr());
            assert!(!file.is_null(), "{}", path.display());
            rdsys::rd_kafka_conf_properties_show(file.cast());
            fclose(file);
        }
        fs::read_to_string(path).expect("a text")
    }

    #[test]
    fn every_alias_of_librdkafka_is_resolved() {
        let properties = properties();
        let aliases: Vec<_> = properties
            .lines()
            .filter_map(|line| {
                let (_, behind) = line.split_once("Alias for `")?;
                let name = line.split('|').next()?.trim();
                Some((name, behind.split_once('`')?.0))
            })
            .collect();

        assert!(aliases.len() > 10, "{properties}");
        for (alias, name) in aliases {
            assert_eq!(canonical_name(alias), canonical_name(name), "{alias}");
        }
    }

    #[test]
    fn every_name_without_a_dot_is_known() {
        let properties = properties();
        let names = properties.lines().filter_map(|line| line.split_once('|'));
        let names = names.map(|(name, _)| name.trim());
        // Callbacks have underscores. Neither they nor these two are set as text.
        let is_given_as_text = |name: &&str| {
            !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_lowercase())
                && !["interceptors", "opaque"].contains(name)
        };
        for name in names.filter(is_given_as_text) {
            assert!(NAMES_WITHOUT_DOT.contains(&name), "{name}");
        }
    }
}
