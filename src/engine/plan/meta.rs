//! What a stream says of itself.

use std::time::SystemTime;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use vmstream::stream::{Compression, StreamMeta};

use crate::engine::domain::image_format::ImageFormat;

/// Where a stream stands in its chain.
pub(crate) struct Origin {
    pub(crate) checkpoint: String,
    pub(crate) parent: String,
    pub(crate) incremental: bool,
    pub(crate) time: SystemTime,
}

/// A stream's meta frame.
pub(crate) fn meta(
    target: &str,
    format: ImageFormat,
    virtual_size: u64,
    compression: Option<Compression>,
    origin: &Origin,
) -> StreamMeta {
    StreamMeta {
        virtual_size,
        data_size: 0,
        date: local_date(origin.time),
        disk_name: target.to_owned(),
        disk_format: format.as_str().to_owned(),
        checkpoint_name: origin.checkpoint.clone(),
        compression,
        parent_checkpoint: origin.parent.clone(),
        incremental: origin.incremental,
        stream_version: StreamMeta::version_for(compression),
    }
}

/// Local time without zone, as the format has it.
pub(crate) fn local_date(time: SystemTime) -> String {
    let timestamp = Timestamp::try_from(time).unwrap_or_default();
    timestamp.to_zoned(TimeZone::system()).strftime("%Y-%m-%dT%H:%M:%S.%6f").to_string()
}
