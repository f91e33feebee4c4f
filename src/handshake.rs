//! What they ask for.
