//! The rules language.
