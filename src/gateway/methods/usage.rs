//! `usage.*`: tokens day by day, as the store has them. Prices are not known, so costs are not given as more than zero,
//! and every run counts as one without a price.

use futures::future::BoxFuture;
use offshoot_actors::ports::DayUsage;
use offshoot_actors::types::{Timestamp, Usage};
use serde::Deserialize;
use serde_json::{Value, json};

use super::days::{self, Days, Zone};
use super::{Answer, Call, Method, READ, answer, later, now};
use crate::protocol::error::ErrorShape;

pub(super) const METHODS: &[Method] = &[now("usage.status", READ, status), later("usage.cost", READ, cost)];

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
        let days = days(&params, now)
            .map_err(|problem| ErrorShape::invalid(format!("invalid {} params: {problem}", call.method)))?;
        let storage = call.daemon.tree()?.storage();
        let used = storage.usage_by_day(days.begin(), days.end(), days.offset_ms()).await;
        let used = used.map_err(|error| ErrorShape::unavailable(error.to_string()))?;
        answer(&report(&used, &days, now))
    })
}

fn days(params: &Params, now: Timestamp) -> Result<Days, String> {
    let zone = Zone::read(params.mode.as_deref(), params.utc_offset.as_deref())?;
    Days::read(zone, params.start_date.as_deref(), params.end_date.as_deref(), params.days, now)
}

fn report(used: &[DayUsage], days: &Days, now: Timestamp) -> Value {
    let daily: Vec<Value> = used
        .iter()
        .map(|day| {
            let mut value = tokens(day.usage, day.runs);
            value["date"] = days::date(day.day).into();
            value
        })
        .collect();
    let all = used.iter().map(|day| day.usage).sum();
    json!({
        "updatedAt": now.0,
        "days": days.count(),
        "daily": daily,
        "totals": tokens(all, used.iter().map(|day| day.runs).sum()),
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
    use offshoot_actors::ports::DAY_MS;

    use super::*;

    const NOW: Timestamp = Timestamp(20_000 * DAY_MS + 3 * 60 * 60 * 1_000);

    fn of(value: Value) -> Result<Days, String> {
        days(&serde_json::from_value(value).unwrap(), NOW)
    }

    #[test]
    fn a_window_ends_today_or_where_it_is_told() {
        let month = of(json!({})).unwrap();
        assert_eq!(
            (month.count(), month.first_date(), month.last_date()),
            (30, "2024-09-05".into(), "2024-10-04".into())
        );
        assert_eq!(of(json!({ "days": 1 })).unwrap().begin(), Timestamp(20_000 * DAY_MS));
        let named = of(json!({ "startDate": "2024-09-01", "endDate": "2024-09-02" })).unwrap();
        assert_eq!((named.count(), named.end().0 - named.begin().0), (2, 2 * DAY_MS));
        for wrong in [
            json!({ "startDate": "2024-09-03", "endDate": "2024-09-02" }),
            json!({ "startDate": "9999-13-01" }),
            json!({ "mode": "specific", "utcOffset": "two" }),
        ] {
            assert!(of(wrong.clone()).is_err(), "{wrong}");
        }
        // Three hours after midnight in Greenwich it is yesterday in New York.
        let west = of(json!({ "days": 1, "mode": "specific", "utcOffset": "UTC-05:00" })).unwrap();
        assert_eq!(west.begin().0, 19_999 * DAY_MS + 5 * 60 * 60 * 1_000);
    }

    #[test]
    fn totals_are_the_sum_of_the_days() {
        let usage = |input| Usage { input, output: 5, cached: 3 };
        let used =
            [DayUsage { day: 1, runs: 2, usage: usage(10) }, DayUsage { day: 3, runs: 1, usage: usage(20) }];
        let report = report(&used, &of(json!({ "days": 7 })).unwrap(), NOW);
        assert_eq!(report["days"], 7);
        assert_eq!(report["daily"][1]["date"], "1970-01-04");
        assert_eq!(report["totals"]["input"], 24);
        assert_eq!(report["totals"]["totalTokens"], 40);
        assert_eq!(report["totals"]["missingCostEntries"], 3);
    }
}
