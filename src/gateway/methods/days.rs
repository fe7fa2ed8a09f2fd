//! Days of the calendar at a fixed distance from UTC.

use offshoot_actors::types::Timestamp;

const DAY_MS: i64 = 86_400_000;
/// Days of an answer where the client does not say.
const DEFAULT_DAYS: i64 = 30;
/// Ten years: past it a range is a mistake.
const MAX_DAYS: i64 = 3_660;

/// How far the client's clock is from UTC, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Zone(i64);

impl Zone {
    /// `utc`, `gateway` (whose clock is UTC) or `specific` with an offset such as `UTC+5:30`.
    pub(crate) fn read(mode: Option<&str>, offset: Option<&str>) -> Result<Self, String> {
        match mode {
            None | Some("utc" | "gateway") => Ok(Self(0)),
            Some("specific") => {
                let offset = offset.ok_or("at /utcOffset: must be given with mode specific")?;
                parse_offset(offset)
                    .map(Self)
                    .ok_or_else(|| "at /utcOffset: must be like UTC+5:30".to_owned())
            }
            Some(_) => Err("at /mode: must be utc, gateway or specific".to_owned()),
        }
    }
}

fn parse_offset(text: &str) -> Option<i64> {
    let text = text.trim();
    let text = text.strip_prefix("UTC").or_else(|| text.strip_prefix("GMT")).unwrap_or(text);
    if text.is_empty() {
        return Some(0);
    }
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':').unwrap_or((rest, "0"));
    let (hours, minutes) = (hours.parse::<u8>().ok()?, minutes.parse::<u8>().ok()?);
    let fits = hours <= 14 && minutes < 60;
    fits.then(|| sign * (i64::from(hours) * 60 + i64::from(minutes)) * 60_000)
}

/// A range of days, both ends in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Days {
    zone: Zone,
    first: i64,
    last: i64,
}

impl Days {
    /// From `first` to `last`, or the `count` of them up to it, or up to today.
    pub(crate) fn read(
        zone: Zone,
        first: Option<&str>,
        last: Option<&str>,
        count: Option<i64>,
        now: Timestamp,
    ) -> Result<Self, String> {
        let parse = |name: &str, text: &str| {
            number(text).ok_or_else(|| format!("at /{name}: must be a day as YYYY-MM-DD"))
        };
        let today = (now.0 + zone.0).div_euclid(DAY_MS);
        let last = last.map_or(Ok(today), |text| parse("endDate", text))?;
        let count = count.unwrap_or(DEFAULT_DAYS).clamp(1, MAX_DAYS);
        let first = first.map_or(Ok(last - count + 1), |text| parse("startDate", text))?;
        if first > last || last - first >= MAX_DAYS {
            return Err(format!(
                "startDate and endDate must be at most {MAX_DAYS} days apart, in this order"
            ));
        }
        Ok(Self { zone, first, last })
    }

    /// When the first day begins.
    pub(crate) const fn begin(&self) -> Timestamp {
        Timestamp(self.first * DAY_MS - self.zone.0)
    }

    /// When the day after the last one begins.
    pub(crate) const fn end(&self) -> Timestamp {
        Timestamp((self.last + 1) * DAY_MS - self.zone.0)
    }

    /// How many they are.
    pub(crate) const fn count(&self) -> i64 {
        self.last - self.first + 1
    }

    /// Whether it is one of these days.
    pub(crate) const fn holds(&self, day: i64) -> bool {
        self.first <= day && day <= self.last
    }

    /// Milliseconds from UTC to the clock of these days.
    pub(crate) const fn offset_ms(&self) -> i64 {
        self.zone.0
    }

    pub(crate) fn first_date(&self) -> String {
        date(self.first)
    }

    pub(crate) fn last_date(&self) -> String {
        date(self.last)
    }
}

/// The number of a day, counted from 1970-01-01.
fn number(text: &str) -> Option<i64> {
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || year.len() != 4 || month.len() != 2 || day.len() != 2 {
        return None;
    }
    let (year, month, day) = (year.parse::<u16>().ok()?, month.parse::<u8>().ok()?, day.parse::<u8>().ok()?);
    // The year begins in March, so that the day that is not always there is its last.
    let shifted = i64::from(year) - i64::from(month <= 2);
    let of_year = (153 * ((i64::from(month) + 9) % 12) + 2) / 5 + i64::from(day) - 1;
    let number =
        shifted * 365 + shifted.div_euclid(4) - shifted.div_euclid(100) + shifted.div_euclid(400) + of_year
            - 719_468;
    // A day that the month does not have comes back as another.
    (date(number) == text).then_some(number)
}

/// The day of this number as YYYY-MM-DD.
pub(crate) fn date(number: i64) -> String {
    let shifted = number + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march + 2) / 5 + 1;
    let month = if march < 10 { march + 3 } else { march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_text_is_too_odd_for_a_range(
            mode in "(utc|gateway|specific|.{0,4})",
            offset in "((UTC|GMT)?[+-]?[0-9]{0,4}:?[0-9]{0,3}|\\PC{0,8})",
            first in "([0-9]{1,5}-[0-9]{1,3}-[0-9]{1,3}|\\PC{0,12})",
            last in "([0-9]{4}-[0-9]{2}-[0-9]{2}|\\PC{0,12})",
            count: i64,
            now in -4_102_444_800_000_i64..4_102_444_800_000,
        ) {
            let Ok(zone) = Zone::read(Some(&mode), Some(&offset)) else { return Ok(()) };
            for (first, last) in [(Some(&*first), Some(&*last)), (None, Some(&*last)), (Some(&*first), None)] {
                if let Ok(days) = Days::read(zone, first, last, Some(count), Timestamp(now)) {
                    prop_assert!(days.begin() < days.end() && (1..=MAX_DAYS).contains(&days.count()));
                    prop_assert!(days.first_date() <= days.last_date());
                }
            }
        }
    }

    #[test]
    fn days_and_dates_are_each_other() {
        for (text, expected) in
            [("1970-01-01", 0), ("1969-12-31", -1), ("2000-02-29", 11_016), ("2026-11-21", 20_778)]
        {
            assert_eq!((number(text), date(expected).as_str()), (Some(expected), text));
        }
        for day in (-200_000..200_000).step_by(37) {
            let text = date(day);
            assert_eq!(number(&text), Some(day), "{text}");
        }
        for wrong in
            ["2026-02-29", "2026-13-01", "2026-1-01", "2026-01-00", "x", "2026-01-01-01", "-001-01-01"]
        {
            assert_eq!(number(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_day_begins_where_the_client_is() {
        let now = Timestamp(20_778 * DAY_MS + 23 * 3_600_000);
        let zone = |offset| Zone::read(Some("specific"), Some(offset)).unwrap();
        let today = |zone| Days::read(zone, None, None, None, now).unwrap().last_date();
        assert_eq!(today(Zone(0)), "2026-11-21");
        assert_eq!(today(zone("UTC+2")), "2026-11-22");
        assert_eq!(today(zone("UTC-5:30")), "2026-11-21");
        let days = Days::read(zone("UTC+5:30"), Some("2026-11-21"), Some("2026-11-21"), None, now).unwrap();
        assert_eq!(days.begin(), Timestamp(20_778 * DAY_MS - 330 * 60_000));
        assert!(days.holds(20_778) && !days.holds(20_777) && !days.holds(20_779));
    }

    #[test]
    fn what_is_no_range_is_refused() {
        let read = |first, last| Days::read(Zone(0), first, last, None, Timestamp(0));
        assert!(read(Some("2026-01-02"), Some("2026-01-01")).is_err());
        assert!(read(Some("1900-01-01"), Some("2026-01-01")).is_err());
        assert!(read(Some("yesterday"), None).is_err());
        for offset in ["UTC+15", "UTC+1:60", "+x", "1", "é"] {
            assert!(Zone::read(Some("specific"), Some(offset)).is_err(), "{offset}");
        }
        assert!(Zone::read(Some("elsewhere"), None).is_err());
    }
}
