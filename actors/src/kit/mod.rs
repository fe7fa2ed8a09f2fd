//! What ractor does not give.
