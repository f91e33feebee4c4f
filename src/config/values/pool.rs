//! The names of pools.

use std::sync::Arc;

use toml::de::DeValue;

use super::scalars::Label;
use crate::config::toml::diagnostic::Problem;
use crate::config::toml::value::TomlValue;

/// The name of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PoolName(pub(crate) Arc<str>);

impl TomlValue for PoolName {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        let Label(name) = Label::read(value)?;
        if &*name == OFF {
            let problem = Problem::new("pool = \"off\" in a [[route]] means that it uses no pool");
            return Err(problem.help("choose another name"));
        }
        Ok(Self(name))
    }
}

/// The pool of a route, or `"off"` (`None`) if the route lists its backends itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PoolChoice(pub(crate) Option<Arc<str>>);

impl TomlValue for PoolChoice {
    fn read(value: &DeValue<'_>) -> Result<Self, Problem> {
        if value.is_array() || value.is_table() {
            let problem = Problem::new("a route refers to a pool by its name");
            return Err(problem.help("write pool = \"chat\", or backends = [...] for a list"));
        }
        let Label(name) = Label::read(value)?;
        Ok(Self((&*name != OFF).then_some(name)))
    }
}

const OFF: &str = "off";
