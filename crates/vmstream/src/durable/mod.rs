//! Files that appear whole, and are still there when the host fails right after: write, sync, rename, sync of the folder.
//!
//! Lives here: small files in one call (`replace`), names that take nobody's place (`new_name`), folders that are made durable
//! (`sync`), several files that are at once (`together`).
//! Must not live here: what is written, and several files that become visible together (`new_point`).

mod new_name;
mod replace;
mod sync;
mod together;

pub use new_name::{knows_no_links, rename_new, rename_over, taken};
pub use replace::{PARTIAL, partial_path, put, replace, replace_through, replace_with};
pub use sync::{sync_folder, sync_folder_of};
pub use together::Together;
