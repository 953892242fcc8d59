//! FTP control connections.
