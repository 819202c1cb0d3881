//! The time as people read it at a console.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// `12:01:07`, local time.
pub fn clock(at: Timestamp) -> String {
    at.to_zoned(TimeZone::system()).strftime("%H:%M:%S").to_string()
}
