//! Networks for the scenarios.
