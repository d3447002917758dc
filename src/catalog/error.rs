//! What can go wrong with the database. Nothing of it stops a backup.

/// A question that could not be answered.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// This run goes on without a database.
    #[error("there is no usable database in this run")]
    Unavailable,
    /// SQLite said no.
    #[error("the database cannot be read: {0}")]
    Sql(#[from] rusqlite::Error),
}

/// A database whose tables are not those we know.
#[derive(Debug, thiserror::Error)]
pub(super) enum SchemaError {
    /// Made by something else.
    #[error(
        "its table {table} has no column {column}: another program made it. Move the file away; a new one is made from the backups on disk"
    )]
    NotOurs { table: &'static str, column: &'static str },
    /// Made by a newer version, and too different.
    #[error(
        "it has version {version}, which is newer than this program, and lacks {table}.{column}. It is left as it is; use the newer program, or move the file away"
    )]
    Newer { version: String, table: &'static str, column: &'static str },
    /// SQLite said no.
    #[error("{0}")]
    Sql(#[from] rusqlite::Error),
}
