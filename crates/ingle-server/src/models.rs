//! The models that can be asked.

use crate::problem::Problem;
use ingle_engine::Engine;
use std::time::{SystemTime, UNIX_EPOCH};

/// A model that is being served.
pub struct Served {
    /// The name that requests call it by.
    pub id: String,
    /// Other names that it answers to.
    pub aliases: Vec<String>,
    /// Answers.
    pub engine: Engine,
    /// Seconds since 1970 at which it was loaded.
    pub(crate) created: u64,
}

impl Served {
    /// A loaded model under a name.
    pub fn new(id: String, engine: Engine) -> Served {
        Served { id, aliases: Vec::new(), engine, created: now() }
    }

    /// The same under further names.
    #[must_use]
    pub fn with_aliases(self, aliases: Vec<String>) -> Served {
        Served { aliases, ..self }
    }

    fn is_called(&self, name: &str) -> bool {
        self.id == name || self.aliases.iter().any(|alias| alias == name)
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// All of them.
pub(crate) struct Models {
    served: Vec<Served>,
}

impl Models {
    pub(crate) fn new(served: Vec<Served>) -> Models {
        Models { served }
    }

    pub(crate) fn all(&self) -> &[Served] {
        &self.served
    }

    /// The one of that name; without a name, the first.
    ///
    /// # Errors
    /// A name that none has.
    pub(crate) fn find(&self, name: Option<&str>) -> Result<&Served, Problem> {
        let found = match name {
            None => self.served.first(),
            Some(name) => self.served.iter().find(|served| served.is_called(name)),
        };
        found.ok_or_else(|| {
            let name: String = name.unwrap_or_default().chars().take(200).collect();
            let all: Vec<&str> = self.served.iter().map(|served| served.id.as_str()).collect();
            let message = format!("there is no model `{name}` here; there is: {}", all.join(", "));
            Problem { kind: "model_not_found", field: Some("model".into()), ..Problem::not_found(message) }
        })
    }
}
