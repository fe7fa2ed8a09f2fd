//! What an operator's client may do.

use std::fmt;
use std::ops::BitOr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::ids::clipped;

/// Most names of scopes that one list may hold: more than there are, because a client may repeat itself.
pub const MAX_SCOPES: usize = 64;

/// One right of an operator's client. Ordered as its names are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Scope {
    /// Everything.
    Admin,
    /// To answer requests for approval.
    Approvals,
    /// To manage devices.
    Pairing,
    /// To answer questions of agents.
    Questions,
    /// To look.
    Read,
    /// To speak with an agent.
    Talk,
    /// To read the secrets of the providers of speech.
    TalkSecrets,
    /// To send messages and start runs.
    Write,
}

impl Scope {
    /// All scopes, sorted by name.
    pub const ALL: [Self; 8] = [
        Self::Admin,
        Self::Approvals,
        Self::Pairing,
        Self::Questions,
        Self::Read,
        Self::Talk,
        Self::TalkSecrets,
        Self::Write,
    ];

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "operator.admin",
            Self::Approvals => "operator.approvals",
            Self::Pairing => "operator.pairing",
            Self::Questions => "operator.questions",
            Self::Read => "operator.read",
            Self::Talk => "operator.talk",
            Self::TalkSecrets => "operator.talk.secrets",
            Self::Write => "operator.write",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A list of scopes that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// A name that no scope has.
    #[error("unknown scope {0:?}: known scopes are {all}", all = Scopes::ALL)]
    Unknown(String),
    /// More names than [`MAX_SCOPES`].
    #[error("more than {MAX_SCOPES} scopes were given: leave out the repeated ones")]
    TooMany,
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let found = Self::ALL.into_iter().find(|scope| scope.as_str() == text);
        found.ok_or_else(|| ScopeError::Unknown(clipped(text)))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> Self {
        scope.as_str().to_owned()
    }
}

impl TryFrom<String> for Scope {
    type Error = ScopeError;

    fn try_from(text: String) -> Result<Self, ScopeError> {
        text.parse()
    }
}

/// A set of scopes.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Scopes(u8);

impl Scopes {
    /// No scope.
    pub const NONE: Self = Self(0);
    /// Every scope.
    pub const ALL: Self = Self(u8::MAX);

    /// Reads a list of names, in any order and with repeats.
    ///
    /// # Errors
    /// A name that no scope has, or too many names.
    pub fn from_names<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> Result<Self, ScopeError> {
        let mut scopes = Self::NONE;
        for (index, name) in names.into_iter().enumerate() {
            if index == MAX_SCOPES {
                return Err(ScopeError::TooMany);
            }
            scopes = scopes.with(name.as_ref().parse()?);
        }
        Ok(scopes)
    }

    /// The same and one more.
    #[must_use]
    pub const fn with(self, scope: Scope) -> Self {
        Self(self.0 | scope.bit())
    }

    /// The scopes of both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether this very scope is in the set. What others imply is not looked at, see [`Scopes::covers`].
    #[must_use]
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// Whether no scope is in the set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The scopes, sorted by name.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.contains(*scope))
    }

    /// All that the set allows: admin implies every scope, write implies read and talk.
    #[must_use]
    pub const fn implied(self) -> Self {
        if self.contains(Scope::Admin) {
            Self::ALL
        } else if self.contains(Scope::Write) {
            self.with(Scope::Read).with(Scope::Talk)
        } else {
            self
        }
    }

    /// Whether the set allows all that `required` names.
    #[must_use]
    pub const fn covers(self, required: Self) -> bool {
        required.0 & !self.implied().0 == 0
    }

    /// The first scope of `required`, by name, that the set does not allow.
    #[must_use]
    pub fn missing(self, required: Self) -> Option<Scope> {
        required.iter().find(|scope| !self.implied().contains(*scope))
    }

    /// The form in which scopes are approved and stored: admin adds read and write, write adds read.
    #[must_use]
    pub const fn normalised(self) -> Self {
        if self.contains(Scope::Admin) {
            self.with(Scope::Read).with(Scope::Write)
        } else if self.contains(Scope::Write) {
            self.with(Scope::Read)
        } else {
            self
        }
    }
}

impl BitOr for Scopes {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        scopes.into_iter().fold(Self::NONE, Self::with)
    }
}

/// The names, sorted, with commas between them.
impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, scope) in self.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "," })?;
            f.write_str(scope.as_str())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{self}]")
    }
}

impl From<Scopes> for Vec<String> {
    fn from(scopes: Scopes) -> Self {
        scopes.iter().map(String::from).collect()
    }
}

impl TryFrom<Vec<String>> for Scopes {
    type Error = ScopeError;

    fn try_from(names: Vec<String>) -> Result<Self, ScopeError> {
        Self::from_names(names)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scopes() -> impl Strategy<Value = Scopes> {
        any::<u8>().prop_map(Scopes)
    }

    proptest! {
        #[test]
        fn names_come_back_sorted_and_once(scopes in scopes()) {
            let names = Vec::<String>::from(scopes);
            prop_assert!(names.is_sorted());
            prop_assert_eq!(Scopes::from_names(&names), Ok(scopes));
            let twice = names.iter().rev().chain(&names);
            prop_assert_eq!(Scopes::from_names(twice), Ok(scopes));
            prop_assert_eq!(scopes.to_string(), names.join(","));
        }

        #[test]
        fn to_cover_is_to_miss_nothing(held in scopes(), required in scopes()) {
            prop_assert_eq!(held.covers(required), held.missing(required).is_none());
            prop_assert!(held.implied().covers(held) && held.covers(held.implied()));
            prop_assert!((held | required).covers(required));
            prop_assert_eq!(held.implied().implied(), held.implied());
        }

        #[test]
        fn the_stored_form_allows_neither_more_nor_less(held in scopes()) {
            prop_assert_eq!(held.normalised().implied(), held.implied());
            prop_assert_eq!(held.normalised().normalised(), held.normalised());
        }
    }

    #[test]
    fn what_implies_what() {
        let one = |scope| Scopes::NONE.with(scope);
        assert!(one(Scope::Admin).covers(Scopes::ALL));
        assert!(one(Scope::Write).covers(one(Scope::Read).with(Scope::Talk)));
        assert!(!one(Scope::Write).covers(one(Scope::TalkSecrets)));
        assert!(!one(Scope::Read).covers(one(Scope::Write)));
        assert!(Scopes::NONE.covers(Scopes::NONE));
        assert_eq!(one(Scope::Write).missing(Scopes::ALL), Some(Scope::Admin));
        assert_eq!(one(Scope::Admin).normalised().to_string(), "operator.admin,operator.read,operator.write");
    }

    #[test]
    fn an_unknown_scope_is_refused_by_name_and_so_is_a_list_without_end() {
        let error = Scopes::from_names(["operator.read", "operator.root"]).unwrap_err();
        assert_eq!(error, ScopeError::Unknown("operator.root".to_owned()));
        assert!(error.to_string().contains("operator.talk.secrets"), "{error}");
        assert!(Scopes::from_names(["Operator.Read"]).is_err());
        assert_eq!(Scopes::from_names(vec!["operator.read"; 65]), Err(ScopeError::TooMany));
        assert!(Scopes::from_names(vec!["operator.read"; 64]).is_ok());
    }
}
