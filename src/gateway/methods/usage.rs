//! `usage.*`: tokens day by day, as the store has them, and what they cost. Runs of models without a price are counted as
//! such and add nothing.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use offshoot_actors::policy::cost::{Cost, Prices};
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
        answer(&report(&used, &days, now, &call.daemon.config().prices))
    })
}

fn days(params: &Params, now: Timestamp) -> Result<Days, String> {
    let zone = Zone::read(params.mode.as_deref(), params.utc_offset.as_deref())?;
    Days::read(zone, params.start_date.as_deref(), params.end_date.as_deref(), params.days, now)
}

/// What some runs used.
#[derive(Default)]
struct Sum {
    usage: Usage,
    cost: Cost,
    /// Runs of models without a price.
    unpriced: u64,
}

impl Sum {
    fn add(&mut self, used: &DayUsage, prices: &Prices) {
        self.usage += used.usage;
        match prices.cost(&used.model, used.usage) {
            Some(cost) => self.cost += cost,
            None => self.unpriced += used.runs,
        }
    }

    fn tokens(&self) -> Value {
        let Self { usage, cost, unpriced } = self;
        json!({
            "input": usage.input.saturating_sub(usage.cached),
            "output": usage.output,
            "cacheRead": usage.cached,
            "cacheWrite": 0,
            "totalTokens": usage.total(),
            "totalCost": cost.total(),
            "inputCost": cost.input,
            "outputCost": cost.output,
            "cacheReadCost": cost.cache_read,
            "cacheWriteCost": 0,
            "missingCostEntries": unpriced,
        })
    }
}

fn report(used: &[DayUsage], days: &Days, now: Timestamp, prices: &Prices) -> Value {
    let (mut daily, mut all) = (BTreeMap::<i64, Sum>::new(), Sum::default());
    for used in used {
        daily.entry(used.day).or_default().add(used, prices);
        all.add(used, prices);
    }
    let day = |(day, sum): (&i64, &Sum)| {
        let mut value = sum.tokens();
        value["date"] = days::date(*day).into();
        value
    };
    json!({
        "updatedAt": now.0,
        "days": days.count(),
        "daily": daily.iter().map(day).collect::<Vec<_>>(),
        "totals": all.tokens(),
    })
}

#[cfg(test)]
mod tests {
    use offshoot_actors::policy::cost::Price;
    use offshoot_actors::ports::DAY_MS;
    use offshoot_actors::types::ModelRef;

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
    fn totals_are_the_sum_of_the_days_with_what_is_known_of_their_cost() {
        let usage = |input| Usage { input, output: 5, cached: 3 };
        let (priced, free): (ModelRef, ModelRef) = ("a/b".parse().unwrap(), "c/d".parse().unwrap());
        let used = [
            DayUsage { day: 1, model: priced.clone(), runs: 2, usage: usage(10) },
            DayUsage { day: 3, model: free, runs: 1, usage: usage(20) },
            DayUsage { day: 3, model: priced.clone(), runs: 1, usage: usage(3) },
        ];
        let price = Price { input: 1_000_000.0, output: 0.0, cache_read: 500_000.0, cache_write: 0.0 };
        let prices = [(priced, price)].into_iter().collect();
        let report = report(&used, &of(json!({ "days": 7 })).unwrap(), NOW, &prices);
        assert_eq!((&report["days"], report["daily"].as_array().unwrap().len()), (&json!(7), 2));
        assert_eq!(report["daily"][1]["date"], "1970-01-04");
        assert_eq!((&report["totals"]["input"], &report["totals"]["totalTokens"]), (&json!(24), &json!(48)));
        assert_eq!(
            (&report["totals"]["inputCost"], &report["totals"]["totalCost"]),
            (&json!(7.0), &json!(10.0))
        );
        assert_eq!(report["totals"]["missingCostEntries"], 1);
    }
}
