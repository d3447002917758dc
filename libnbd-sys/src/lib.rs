//! Raw declarations of the part of libnbd that vmbackup uses.
