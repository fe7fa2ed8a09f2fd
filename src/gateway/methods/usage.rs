//! `usage.*`: tokens day by day, as the store has them. Prices are not known, so costs are not given as more than zero,
//! and every run counts as one without a price.

use std::time::Duration;

use futures::future::BoxFuture;
use offshoot_actors::ports::{DAY_MS, DayUsage};
use offshoot_actors::types::{Timestamp, Usage};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Call, Method, READ, answer, later, now};
use crate::protocol::error::ErrorShape;

pub(super) const METHODS: &[Method] = &[now("usage.status", READ, status), later("usage.cost", READ, cost)];

const DAYS: i64 = 30;
const MAX_DAYS: i64 = 3_660;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "an object")]
struct Params {
    days: Option<i64>,
    start_date: Option<String>,
    end_date: Option<String>,
    mode: Option<String>,
    utc_offset: Option<String>,
}

fn status(call: &Call) -> Answer {
    // No provider is asked for what is left of a plan.
    answer(&json!({ "updatedAt": call.now().0, "providers": [] }))
}

fn cost(call: Call) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        let params: Params = call.params()?;
        let now = call.now();
        let window = window(&params, now)?;
        let storage = call.daemon.tree()?.storage();
        let days = storage.usage_by_day(window.from(), window.until(), window.offset_ms).await;
        let days = days.map_err(|error| ErrorShape::unavailable(error.to_string()))?;
        answer(&report(&days, &window, now))
    })
}

/// Whole days, the last one included, and how far they are from those of UTC.
#[derive(Debug, PartialEq, Eq)]
struct Window {
    first: i64,
    last: i64,
    offset_ms: i64,
}

impl Window {
    fn from(&self) -> Timestamp {
        Timestamp(self.first.saturating_mul(DAY_MS).saturating_sub(self.offset_ms))
    }

    fn until(&self) -> Timestamp {
        Timestamp((self.last + 1).saturating_mul(DAY_MS).saturating_sub(self.offset_ms))
    }
}

fn window(params: &Params, now: Timestamp) -> Result<Window, ErrorShape> {
    let offset_ms = match (params.mode.as_deref(), params.utc_offset.as_deref()) {
        (Some("specific"), Some(text)) => offset(text)?,
        _ => 0,
    };
    let today = now.0.saturating_add(offset_ms).div_euclid(DAY_MS);
    let last = params.end_date.as_deref().map(|text| day_of("endDate", text)).transpose()?.unwrap_or(today);
    let days = params.days.unwrap_or(DAYS).clamp(1, MAX_DAYS);
    let first = params.start_date.as_deref().map(|text| day_of("startDate", text)).transpose()?;
    let first = first.unwrap_or(last - (days - 1)).max(last - (MAX_DAYS - 1));
    if first > last {
        return Err(ErrorShape::invalid("invalid usage params: startDate is after endDate"));
    }
    Ok(Window { first, last, offset_ms })
}

/// `UTC+2`, `+05:30`, `-3`.
fn offset(text: &str) -> Result<i64, ErrorShape> {
    let wrong =
        || ErrorShape::invalid("invalid usage params: at /utcOffset: must be such as UTC+2 or UTC-05:30");
    let rest = text.trim().trim_start_matches("UTC").trim_start_matches("GMT");
    if rest.is_empty() {
        return Ok(0);
    }
    let (sign, rest) = match rest.split_at_checked(1) {
        Some(("+", rest)) => (1, rest),
        Some(("-", rest)) => (-1, rest),
        _ => return Err(wrong()),
    };
    let (hours, minutes) = rest.split_once(':').unwrap_or((rest, "0"));
    let number = |text: &str, max: i64| {
        text.parse().ok().filter(|number| (0..=max).contains(number)).ok_or_else(wrong)
    };
    let minutes = number(hours, 14)? * 60 + number(minutes, 59)?;
    Ok(sign * minutes * 60 * 1_000)
}

/// The day that a date such as `2026-04-15` names, counted from the first of January 1970.
fn day_of(name: &str, text: &str) -> Result<i64, ErrorShape> {
    let date = || {
        let mut parts = text.split('-');
        let mut number = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits)?;
            part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse::<i64>().ok())?
        };
        let (year, month, day) = (number(4)?, number(2)?, number(2)?);
        let days = days_before(year, month) + day - 1;
        // A day that the month does not have is another date.
        (parts.next().is_none() && date_of(days) == text).then_some(days)
    };
    date().ok_or_else(|| ErrorShape::invalid(format!("invalid usage params: at /{name}: must be YYYY-MM-DD")))
}

/// Days from the first of January 1970 to the first of a month.
const fn days_before(year: i64, month: i64) -> i64 {
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * month + 2) / 5 - 719_468
}

/// The date of a day.
fn date_of(day: i64) -> String {
    let at = Duration::from_secs(u64::try_from(day).unwrap_or(0).saturating_mul(24 * 60 * 60));
    let http = httpdate::fmt_http_date(std::time::UNIX_EPOCH + at);
    // "Thu, 01 Jan 1970 00:00:00 GMT"
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let (day, month, year) = (http.get(5..7), http.get(8..11), http.get(12..16));
    let month = month.and_then(|name| MONTHS.find(name)).map_or(1, |at| at / 3 + 1);
    format!("{}-{month:02}-{}", year.unwrap_or("1970"), day.unwrap_or("01"))
}

fn report(days: &[DayUsage], window: &Window, now: Timestamp) -> Value {
    let daily: Vec<Value> = days
        .iter()
        .map(|day| {
            let mut value = tokens(day.usage, day.runs);
            value["date"] = date_of(day.day).into();
            value
        })
        .collect();
    let all = days.iter().map(|day| day.usage).sum();
    json!({
        "updatedAt": now.0,
        "days": window.last - window.first + 1,
        "daily": daily,
        "totals": tokens(all, days.iter().map(|day| day.runs).sum()),
    })
}

fn tokens(usage: Usage, runs: u64) -> Value {
    json!({
        "input": usage.input.saturating_sub(usage.cached),
        "output": usage.output,
        "cacheRead": usage.cached,
        "cacheWrite": 0,
        "totalTokens": usage.total(),
        "totalCost": 0,
        "inputCost": 0,
        "outputCost": 0,
        "cacheReadCost": 0,
        "cacheWriteCost": 0,
        "missingCostEntries": runs,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp(20_000 * DAY_MS + 3 * 60 * 60 * 1_000);

    fn params(value: Value) -> Params {
        serde_json::from_value(value).unwrap()
    }

    proptest! {
        #[test]
        fn a_date_names_its_day(day in 0_i64..60_000) {
            prop_assert_eq!(day_of("startDate", &date_of(day)).unwrap(), day);
        }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date_of(0), "1970-01-01");
        assert_eq!(date_of(20_000), "2024-10-04");
        assert_eq!(day_of("x", "2024-02-29").unwrap(), 19_782);
        for wrong in ["2023-02-29", "2024-13-01", "2024-1-1", "20240101", "2024-01-01-01", "", "abcd-ef-gh"] {
            assert!(day_of("startDate", wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_window_ends_today_or_where_it_is_told() {
        let window = |value| window(&params(value), NOW);
        assert_eq!(window(json!({})).unwrap(), Window { first: 19_971, last: 20_000, offset_ms: 0 });
        assert_eq!(window(json!({ "days": 1 })).unwrap().from(), Timestamp(20_000 * DAY_MS));
        let named = window(json!({ "startDate": "2024-09-01", "endDate": "2024-09-02" })).unwrap();
        assert_eq!((named.last - named.first, named.until().0 - named.from().0), (1, 2 * DAY_MS));
        assert!(window(json!({ "startDate": "2024-09-03", "endDate": "2024-09-02" })).is_err());
        // Three hours after midnight in Greenwich it is yesterday in New York.
        let west = window(json!({ "days": 1, "mode": "specific", "utcOffset": "UTC-05:00" })).unwrap();
        assert_eq!((west.first, west.from().0), (19_999, 19_999 * DAY_MS + 5 * 60 * 60 * 1_000));
        assert!(window(json!({ "mode": "specific", "utcOffset": "two" })).is_err());
    }

    #[test]
    fn totals_are_the_sum_of_the_days() {
        let usage = |input| Usage { input, output: 5, cached: 3 };
        let days =
            [DayUsage { day: 1, runs: 2, usage: usage(10) }, DayUsage { day: 3, runs: 1, usage: usage(20) }];
        let report = report(&days, &Window { first: 0, last: 6, offset_ms: 0 }, NOW);
        assert_eq!(report["days"], 7);
        assert_eq!(report["daily"][1]["date"], "1970-01-04");
        assert_eq!(report["totals"]["input"], 24);
        assert_eq!(report["totals"]["totalTokens"], 40);
        assert_eq!(report["totals"]["missingCostEntries"], 3);
    }
}
