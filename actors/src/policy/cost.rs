//! What tokens cost.

use std::collections::BTreeMap;

use crate::types::{ModelRef, Usage};

const MILLION: f64 = 1_000_000.0;

/// What a model costs, in US dollars for a million tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Price {
    /// Tokens of the prompt.
    pub input: f64,
    /// Tokens of the answer.
    pub output: f64,
    /// Tokens of the prompt that come from the provider's cache.
    pub cache_read: f64,
    /// Tokens that the provider puts into its cache. No provider that is supported counts them apart.
    pub cache_write: f64,
}

/// What tokens have cost, by kind, in US dollars.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    /// Of the prompt, but for what came from the cache.
    pub input: f64,
    /// Of the answer.
    pub output: f64,
    /// Of what came from the cache.
    pub cache_read: f64,
}

impl Cost {
    /// All together.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.input + self.output + self.cache_read
    }
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.input += other.input;
        self.output += other.output;
        self.cache_read += other.cache_read;
    }
}

impl Price {
    /// What these tokens cost.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "no run uses so many tokens that it matters")]
    pub fn of(&self, usage: Usage) -> Cost {
        let part = |tokens: u64, price: f64| tokens as f64 * price / MILLION;
        Cost {
            input: part(usage.input.saturating_sub(usage.cached), self.input),
            output: part(usage.output, self.output),
            cache_read: part(usage.cached, self.cache_read),
        }
    }
}

/// The prices that are known.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Prices(BTreeMap<ModelRef, Price>);

impl Prices {
    /// What tokens of this model cost; nothing is known of one without a price. Where nothing was used, nothing is owed.
    #[must_use]
    pub fn cost(&self, model: &ModelRef, usage: Usage) -> Option<Cost> {
        if usage.total() == 0 {
            return Some(Cost::default());
        }
        self.0.get(model).map(|price| price.of(usage))
    }
}

impl FromIterator<(ModelRef, Price)> for Prices {
    fn from_iter<I: IntoIterator<Item = (ModelRef, Price)>>(prices: I) -> Self {
        Self(prices.into_iter().collect())
    }
}

/// Tokens by the models that were called last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spent(Vec<(ModelRef, Usage)>);

impl Spent {
    /// Adds tokens of a model.
    pub fn add(&mut self, model: &ModelRef, usage: Usage) {
        match self.0.iter_mut().find(|(known, _)| known == model) {
            Some((_, sum)) => *sum += usage,
            None => self.0.push((model.clone(), usage)),
        }
    }

    /// All tokens.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.0.iter().map(|(_, usage)| *usage).sum()
    }

    /// What they cost, if the price of every model is known that used any.
    #[must_use]
    pub fn cost(&self, prices: &Prices) -> Option<f64> {
        self.0.iter().map(|(model, usage)| prices.cost(model, *usage).map(|cost| cost.total())).sum()
    }

    /// The tokens of each model.
    pub fn iter(&self) -> impl Iterator<Item = (&ModelRef, Usage)> {
        self.0.iter().map(|(model, usage)| (model, *usage))
    }
}

impl FromIterator<(ModelRef, Usage)> for Spent {
    fn from_iter<I: IntoIterator<Item = (ModelRef, Usage)>>(used: I) -> Self {
        let mut spent = Self::default();
        for (model, usage) in used {
            spent.add(&model, usage);
        }
        spent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(name: &str) -> ModelRef {
        name.parse().unwrap()
    }

    #[test]
    fn cached_tokens_have_a_price_of_their_own() {
        let price = Price { input: 2.0, output: 10.0, cache_read: 0.5, cache_write: 3.0 };
        let cost = price.of(Usage { input: 3_000_000, output: 500_000, cached: 1_000_000 });
        assert_eq!(cost, Cost { input: 4.0, output: 5.0, cache_read: 0.5 });
        assert!((cost.total() - 9.5).abs() < 1e-9);
    }

    #[test]
    fn one_model_without_a_price_leaves_the_sum_unknown() {
        let prices: Prices = [(model("a/b"), Price { input: 1.0, ..Price::default() })].into_iter().collect();
        let used = |input| Usage { input, ..Usage::default() };
        let mut spent: Spent =
            [(model("a/b"), used(1_000_000)), (model("a/b"), used(1_000_000))].into_iter().collect();
        assert_eq!((spent.usage(), spent.cost(&prices)), (used(2_000_000), Some(2.0)));
        spent.add(&model("c/d"), Usage::default());
        assert_eq!(spent.cost(&prices), Some(2.0));
        spent.add(&model("c/d"), used(1));
        assert_eq!(spent.cost(&prices), None);
    }
}
