//! Who a client says it is: the names that both generations of the protocol know.

/// An enumeration whose variants are words on the wire.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$variant_about:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_about])* $variant,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            /// What a word on the wire stands for.
            #[must_use]
            pub fn parse(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.as_str() == word)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Word;

                impl serde::de::Visitor<'_> for Word {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str(concat!("one of", $(" ", $word,)+))
                    }

                    fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<$name, E> {
                        $name::parse(word).ok_or_else(|| E::custom(concat!("must be one of", $(" ", $word,)+)))
                    }
                }

                deserializer.deserialize_str(Word)
            }
        }
    };
}
pub(super) use words;

words! {
    /// The program that a client is.
    ClientId {
        /// The Control UI's chat on its own.
        WebchatUi = "webchat-ui",
        /// The Control UI.
        ControlUi = "openclaw-control-ui",
        /// The terminal UI.
        Tui = "openclaw-tui",
        /// A chat in a web page.
        Webchat = "webchat",
        /// The command line.
        Cli = "cli",
        /// A program that uses the gateway's client library.
        GatewayClient = "gateway-client",
        /// The app for macOS.
        Macos = "openclaw-macos",
        /// The app for iOS.
        Ios = "openclaw-ios",
        /// The app for Android.
        Android = "openclaw-android",
        /// The host of a node.
        NodeHost = "node-host",
        /// A test.
        Test = "test",
        /// A program that looks at who answers.
        Fingerprint = "fingerprint",
        /// A probe.
        Probe = "openclaw-probe",
        /// The browser extension. Generation 4.
        BrowserCopilot = "openclaw-browser-copilot",
        /// The app for Linux. Generation 4.
        Linux = "openclaw-linux",
        /// The app for watches. Generation 4.
        Watchos = "openclaw-watchos",
        /// A worker. Generation 4.
        Worker = "openclaw-worker",
    }
}

words! {
    /// How a client is used.
    ClientMode {
        /// In a browser.
        Webchat = "webchat",
        /// A command.
        Cli = "cli",
        /// A window.
        Ui = "ui",
        /// A service.
        Backend = "backend",
        /// A node that offers commands.
        Node = "node",
        /// A look whether the gateway is there.
        Probe = "probe",
        /// A test.
        Test = "test",
        /// A worker. Generation 4.
        Worker = "worker",
    }
}

/// The capability of clients that want the tool events of the runs that they start.
pub const CAP_TOOL_EVENTS: &str = "tool-events";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{ClientId, ClientMode};

    #[test]
    fn each_word_of_both_generations_is_read_and_written_as_it_is() {
        let ids = "webchat-ui openclaw-control-ui openclaw-tui webchat cli gateway-client openclaw-macos openclaw-ios \
            openclaw-android node-host test fingerprint openclaw-probe openclaw-browser-copilot openclaw-linux \
            openclaw-watchos openclaw-worker";
        let modes = "webchat cli ui backend node probe test worker";
        for word in ids.split_whitespace() {
            let id: ClientId = serde_json::from_value(word.into()).unwrap();
            assert_eq!(serde_json::to_value(id).unwrap(), word);
            assert_eq!(ClientId::parse(word), Some(id));
        }
        for word in modes.split_whitespace() {
            let mode: ClientMode = serde_json::from_value(word.into()).unwrap();
            assert_eq!(serde_json::to_value(mode).unwrap(), word);
        }
        assert_eq!(ids.split_whitespace().count(), ClientId::ALL.len());
        assert_eq!(modes.split_whitespace().count(), ClientMode::ALL.len());
        let words: BTreeSet<_> = ClientId::ALL.iter().map(|id| id.as_str()).collect();
        assert_eq!(words.len(), ClientId::ALL.len());
    }

    #[test]
    fn no_other_word_is_one_and_the_error_does_not_repeat_it() {
        for word in ["", "CLI", "ios-node", "operator"] {
            assert_eq!(ClientId::parse(word), None);
            let error = serde_json::from_value::<ClientMode>(word.into()).unwrap_err().to_string();
            assert_eq!(error, "must be one of webchat cli ui backend node probe test worker");
        }
    }
}
