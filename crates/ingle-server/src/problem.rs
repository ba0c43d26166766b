//! Why a request is not answered, in no API's shape yet.

use axum::http::StatusCode;
use ingle_engine::EngineError;

/// What went wrong, with what it means in HTTP.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    /// A word for programs.
    pub(crate) kind: &'static str,
    /// For people: what happened, to what, and what to do.
    pub(crate) message: String,
    /// The field that is to blame.
    pub(crate) field: Option<String>,
    /// Figures.
    pub(crate) more: Vec<(&'static str, u64)>,
    /// Whether it is what an answer was to be held to.
    pub(crate) of_form: bool,
}

impl Problem {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Problem {
        Problem { status, kind, message: message.into(), field: None, more: Vec::new(), of_form: false }
    }

    /// A body or a field that makes no sense.
    pub(crate) fn invalid(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    /// A field that makes no sense.
    pub(crate) fn field(name: &str, message: impl Into<String>) -> Problem {
        Problem { field: Some(name.to_owned()), ..Problem::invalid(message) }
    }

    /// Names the field where forms are, if this is about one.
    pub(crate) fn of_form_in(self, field: &str) -> Problem {
        if self.of_form && self.field.is_none() {
            Problem { field: Some(field.to_owned()), ..self }
        } else {
            self
        }
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "not_found_error", message)
    }

    pub(crate) fn unauthorised(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::UNAUTHORIZED, "authentication_error", message)
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::FORBIDDEN, "permission_error", message)
    }

    pub(crate) fn with_status(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Problem {
        Problem::new(status, kind, message)
    }

    /// Something that is nobody's fault but ours.
    pub(crate) fn internal(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }
}

impl From<EngineError> for Problem {
    fn from(error: EngineError) -> Problem {
        let message = error.to_string();
        match error {
            EngineError::PromptTooLong { prompt, context } => Problem {
                kind: "exceed_context_size_error",
                more: vec![("n_prompt_tokens", prompt as u64), ("n_ctx", context as u64)],
                ..Problem::invalid(message)
            },
            EngineError::Constraint(_) => Problem { of_form: true, ..Problem::invalid(message) },
            EngineError::QueueFull { .. } => {
                Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message)
            }
            EngineError::Gone => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded_error", message),
            EngineError::Executor(_) | EngineError::Model(_) | EngineError::NotFinite { .. } => {
                Problem::internal(message)
            }
            _ => Problem::invalid(message),
        }
    }
}
