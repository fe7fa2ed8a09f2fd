//! Which model an agent uses: references, aliases and fallbacks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use offshoot_actors::types::{ModelChoice, ModelRef, NameError};

use super::agents::MAX_SECONDS;
use super::problem::Kind;
use super::providers::{BUILTIN, Providers, Unavailable};
use super::read::{Cursor, Reader};
use super::tree::{Value, shorten};

/// The provider of a name without one.
const DEFAULT_PROVIDER: &str = "openai";

/// Short names of models (`agents.defaults.models.<provider/model>.alias`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Aliases {
    by_name: BTreeMap<String, ModelRef>,
}

/// What a model's name means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The model.
    pub model: ModelRef,
    /// Whether its provider is a guess, because the name has none and is no alias.
    pub assumed: bool,
}

impl Aliases {
    /// The model that a name means: `provider/model`, an alias in any case, or else a model of `openai`, provided that
    /// `openai` is one of the `providers` that can be used.
    ///
    /// # Errors
    /// [`NameError::Model`] if it is none of them.
    pub fn resolve(&self, name: &str, providers: &Providers) -> Result<Named, NameError> {
        let name = name.trim();
        if name.contains('/') {
            return Ok(Named { model: name.parse()?, assumed: false });
        }
        if let Some(model) = self.by_name.get(&name.to_lowercase()) {
            return Ok(Named { model: model.clone(), assumed: false });
        }
        let unknown = || NameError::Model(shorten(name));
        if name.is_empty() {
            return Err(unknown());
        }
        let model: ModelRef = format!("{DEFAULT_PROVIDER}/{name}").parse()?;
        providers.serving(&model).map_err(|_| unknown())?;
        Ok(Named { model, assumed: true })
    }

    /// Each alias, lower case, with its model.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ModelRef)> {
        self.by_name.iter().map(|(name, model)| (name.as_str(), model))
    }

    /// Reads `agents.defaults.models`.
    pub(super) fn read(defaults: &Cursor<'_>, reader: &mut Reader<'_>) -> Self {
        let mut aliases = Self::default();
        let Some(models) = reader.section(defaults, "models") else { return aliases };
        for (member, cursor) in models.members() {
            if !reader.is_object(&cursor) {
                continue;
            }
            let Some(alias_at) = cursor.get("alias") else { continue };
            let Some(alias) = reader.filled_text(&alias_at) else { continue };
            match member.name.parse::<ModelRef>() {
                Ok(model) if !member.name.contains('*') => {
                    let alias = alias.trim().to_lowercase();
                    if alias.contains('/') {
                        let text = "without effect: a name with a slash is read as provider/model";
                        reader.warning(&alias_at, Kind::Value, text);
                    } else if let Some(other) = aliases.by_name.get(&alias) {
                        let text = format!("without effect: the alias already stands for {other}");
                        reader.warning(&alias_at, Kind::Value, text);
                    } else {
                        aliases.by_name.insert(alias, model);
                    }
                }
                _ => {
                    let text = "without effect: an alias stands for one model, written provider/model";
                    reader.warning(&alias_at, Kind::Reference, text);
                }
            }
        }
        aliases
    }
}

/// Reads `agents.defaults.llm.idleTimeoutSeconds`; 0 is no bound.
pub(super) fn idle_timeout(defaults: &Cursor<'_>, reader: &mut Reader<'_>) -> Option<Duration> {
    let llm = reader.section(defaults, "llm")?;
    let seconds = reader.whole_at(&llm, "idleTimeoutSeconds", 0..=MAX_SECONDS)?;
    Some(if seconds == 0 { Duration::MAX } else { Duration::from_secs(seconds.into()) })
}

/// Turns model settings into choices that can be called.
pub(super) struct Models<'a> {
    pub(super) aliases: &'a Aliases,
    pub(super) providers: &'a Providers,
    /// Each model that the configuration relies on, with the setting that names it.
    pub(super) used: Vec<(ModelRef, String)>,
}

impl Models<'_> {
    /// A model setting: a name, or `{primary, fallbacks}`. What it leaves open comes from `inherited`.
    pub(super) fn choice(
        &mut self,
        parent: &Cursor<'_>,
        name: &str,
        inherited: &ModelChoice,
        reader: &mut Reader<'_>,
    ) -> Option<ModelChoice> {
        let cursor = parent.get(name)?;
        let mut choice = inherited.clone();
        match &cursor.node.value {
            Value::Text(_) => {
                if let Some(primary) = self.primary(&cursor, reader) {
                    choice.primary = primary;
                }
            }
            Value::Object(_) => {
                if let Some(at) = cursor.get("primary")
                    && let Some(primary) = self.primary(&at, reader)
                {
                    choice.primary = primary;
                }
                if let Some(list) = reader.list(&cursor, "fallbacks") {
                    choice.fallbacks = list.items().filter_map(|at| self.fallback(&at, reader)).collect();
                }
            }
            _ => {
                reader.wrong(&cursor, "a model's name or {primary, fallbacks}");
                return None;
            }
        }
        let mut seen = BTreeSet::from([choice.primary.clone()]);
        choice.fallbacks.retain(|model| seen.insert(model.clone()));
        Some(choice)
    }

    fn primary(&mut self, cursor: &Cursor<'_>, reader: &mut Reader<'_>) -> Option<ModelRef> {
        let model = self.reference(cursor, reader)?;
        match self.available(&model) {
            Ok(()) => {
                self.warn_unlisted(&model, cursor, reader);
                self.used.push((model.clone(), cursor.trail.to_string()));
            }
            // The provider's own settings say what is wrong, at their place.
            Err(Unavailable::Unusable { .. }) => {
                self.used.push((model.clone(), cursor.trail.to_string()));
            }
            Err(unavailable) => reader.error(cursor, Kind::Reference, unavailable.to_string()),
        }
        Some(model)
    }

    fn fallback(&mut self, cursor: &Cursor<'_>, reader: &mut Reader<'_>) -> Option<ModelRef> {
        let model = self.reference(cursor, reader)?;
        match self.available(&model) {
            Ok(()) => {
                self.warn_unlisted(&model, cursor, reader);
                Some(model)
            }
            Err(unavailable) => {
                reader.warning(cursor, Kind::Reference, format!("left out of the fallbacks: {unavailable}"));
                None
            }
        }
    }

    fn reference(&self, cursor: &Cursor<'_>, reader: &mut Reader<'_>) -> Option<ModelRef> {
        let name = reader.filled_text(cursor)?;
        if let Ok(Named { model, assumed }) = self.aliases.resolve(&name, self.providers) {
            if assumed {
                let text = format!("taken as {model}: write the provider too");
                reader.warning(cursor, Kind::Reference, text);
            }
            return Some(model);
        }
        let known: Vec<&str> = self.aliases.iter().map(|(name, _)| name).take(8).collect();
        let aliases = if known.is_empty() { String::new() } else { format!(" ({})", known.join(", ")) };
        reader.wrong(cursor, &format!("provider/model or an alias of agents.defaults.models{aliases}"));
        None
    }

    fn available(&self, model: &ModelRef) -> Result<(), Unavailable> {
        if model.provider() != BUILTIN {
            self.providers.serving(model).map(|_| ())
        } else if *model == ModelRef::rehearsal() {
            Ok(())
        } else {
            Err(Unavailable::NotBuiltIn(model.clone()))
        }
    }

    fn warn_unlisted(&self, model: &ModelRef, cursor: &Cursor<'_>, reader: &mut Reader<'_>) {
        if let Ok(provider) = self.providers.serving(model)
            && !provider.models.is_empty()
            && provider.model(model.model()).is_none()
        {
            let text =
                format!("{model} is not in models.providers.{}.models; it is used as written", provider.id);
            reader.warning(cursor, Kind::Reference, text);
        }
    }
}
