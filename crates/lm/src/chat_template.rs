//! Renders a model's own chat template (Jinja, as Hugging Face models carry it) into a prompt.
//!
//! A template comes with the weights, so it is somebody else's program: it gets fuel, sees only what is passed here,
//! and has neither files nor time.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value, ValueKind, from_args};
use minijinja::{Environment, Error as Jinja, ErrorKind, State, context};
use serde::Serialize;

/// Instructions a template may run; the largest known templates need some ten thousands for a long conversation.
const FUEL: u64 = 5_000_000;
/// Largest template, bytes.
const TEMPLATE_BYTES_MAX: usize = 1 << 20;
const NAME: &str = "chat";

/// Why a conversation could not be rendered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The template itself is not sound; the model is at fault.
    #[error("the model's chat template is malformed: {0}")]
    Malformed(String),
    /// The template refused these messages, with its own words or because something it needs is missing.
    #[error("the model's chat template refuses these messages: {0}")]
    Refused(String),
}

/// A parsed template with the texts of the model's special tokens.
#[derive(Debug)]
pub struct Template {
    environment: Environment<'static>,
    bos: String,
    eos: String,
}

impl Template {
    /// Parses `source`; `bos` and `eos` are what the template sees as `bos_token` and `eos_token`.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self, Error> {
        if source.len() > TEMPLATE_BYTES_MAX {
            return Err(Error::Malformed(format!("it is longer than {TEMPLATE_BYTES_MAX} bytes")));
        }
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| Error::Malformed(error.to_string()))?);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(python_method);
        environment.add_function("raise_exception", raise_exception);
        environment.add_template_owned(NAME, source.to_owned()).map_err(|error| Error::Malformed(error.to_string()))?;
        Ok(Self { environment, bos: bos.to_owned(), eos: eos.to_owned() })
    }

    /// Renders `messages` (objects with `role` and `content`). `ask` appends what invites the model to answer.
    pub fn render<M: Serialize>(&self, messages: &[M], ask: bool) -> Result<String, Error> {
        let template = self.environment.get_template(NAME).map_err(|error| Error::Malformed(error.to_string()))?;
        let values = context! {
            messages => Value::from(Serde(messages)),
            add_generation_prompt => ask,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
        };
        template.render(values).map_err(|error| Error::Refused(reason(&error)))
    }
}

/// Parses and renders in one go, for a model without begin-of-text token.
pub fn render<M: Serialize>(template: &str, messages: &[M], ask: bool) -> Result<String, Error> {
    Template::new(template, "", "")?.render(messages, ask)
}

/// The words of the template's author where there are some, otherwise what kind of thing went wrong. Never values:
/// they are the tenant's.
fn reason(error: &Jinja) -> String {
    match error.kind() {
        ErrorKind::InvalidOperation => error.detail().unwrap_or("an operation failed").to_owned(),
        ErrorKind::OutOfFuel => "it runs for too long".to_owned(),
        kind => kind.to_string(),
    }
}

fn raise_exception(words: String) -> Result<Value, Jinja> {
    Err(Jinja::new(ErrorKind::InvalidOperation, words))
}

/// The methods of Python's strings and dictionaries that chat templates use.
fn python_method(_: &mut State, on: &Value, method: &str, args: &[Value]) -> Result<Value, Jinja> {
    let unknown = || Jinja::from(ErrorKind::UnknownMethod);
    if let Some(text) = on.as_str() {
        return text_method(text, method, args).ok_or_else(unknown)?;
    }
    if on.kind() != ValueKind::Map {
        return Err(unknown());
    }
    let keys = || on.try_iter().map(Iterator::collect::<Vec<_>>);
    match method {
        "get" => {
            let (key, other): (Value, Option<Value>) = from_args(args)?;
            let found = on.get_item(&key)?;
            Ok(if found.is_undefined() { other.unwrap_or(Value::from(())) } else { found })
        }
        "keys" => Ok(Value::from(keys()?)),
        "values" => keys()?.iter().map(|key| on.get_item(key)).collect::<Result<Vec<_>, _>>().map(Value::from),
        "items" => {
            let pairs = keys()?.into_iter().map(|key| on.get_item(&key).map(|value| Value::from(vec![key, value])));
            pairs.collect::<Result<Vec<_>, _>>().map(Value::from)
        }
        _ => Err(unknown()),
    }
}

fn text_method(text: &str, method: &str, args: &[Value]) -> Option<Result<Value, Jinja>> {
    let trimmed = |start: bool, end: bool| {
        let (set,): (Option<String>,) = from_args(args)?;
        let inside = |letter: char| set.as_ref().map_or(letter.is_whitespace(), |set| set.contains(letter));
        let text = if start { text.trim_start_matches(inside) } else { text };
        Ok(Value::from(if end { text.trim_end_matches(inside) } else { text }))
    };
    Some(match method {
        "strip" => trimmed(true, true),
        "lstrip" => trimmed(true, false),
        "rstrip" => trimmed(false, true),
        "upper" => Ok(Value::from(text.to_uppercase())),
        "lower" => Ok(Value::from(text.to_lowercase())),
        "title" | "capitalize" => {
            let mut letters = text.chars();
            let first = letters.next().map(|first| first.to_uppercase().collect::<String>()).unwrap_or_default();
            Ok(Value::from(first + &letters.as_str().to_lowercase()))
        }
        "startswith" => from_args::<(String,)>(args).map(|(start,)| Value::from(text.starts_with(&start))),
        "endswith" => from_args::<(String,)>(args).map(|(end,)| Value::from(text.ends_with(&end))),
        "replace" => from_args::<(String, String)>(args).map(|(from, to)| Value::from(text.replace(&from, &to))),
        "split" => from_args::<(Option<String>, Option<usize>)>(args).map(|(by, most)| split(text, by, most)),
        _ => return None,
    })
}

fn split(text: &str, by: Option<String>, most: Option<usize>) -> Value {
    let most = most.map_or(usize::MAX, |most| most.saturating_add(1));
    let parts: Vec<Value> = match by.filter(|by| !by.is_empty()) {
        Some(by) => text.splitn(most, &by).map(Value::from).collect(),
        None => text.split_whitespace().map(Value::from).collect(),
    };
    Value::from(parts)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const CHATML: &str = "{% for message in messages %}\n    {% if message.role not in ['user', 'assistant'] %}\
        {{ raise_exception('only users and assistants, not ' ~ message.role) }}{% endif %}\n\
        {{ '<|im_start|>' + message['role'] + '\\n' + message['content'].strip() + eos_token }}\n{% endfor %}\
        {%- if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

    #[test]
    fn a_template_renders_as_python_would() {
        let template = Template::new(CHATML, "", "<|im_end|>").unwrap();
        let messages = [json!({"role": "user", "content": " Ça va? "})];
        assert_eq!(
            template.render(&messages, true).unwrap(),
            "<|im_start|>user\nÇa va?<|im_end|>\n<|im_start|>assistant\n"
        );
    }

    #[test]
    fn a_template_can_refuse_with_its_own_words() {
        let messages = [json!({"role": "tool", "content": ""})];
        let refused = Template::new(CHATML, "", "").unwrap().render(&messages, true).unwrap_err();
        assert!(refused.to_string().ends_with("only users and assistants, not tool"), "{refused}");
    }

    #[test]
    fn a_template_that_never_ends_is_stopped() {
        let endless = "{% for a in range(10000) %}{% for b in range(10000) %}x{% endfor %}{% endfor %}";
        let refused = render::<()>(endless, &[], false).unwrap_err();
        assert!(refused.to_string().contains("too long"), "{refused}");
    }

    #[test]
    fn a_broken_template_is_the_models_fault() {
        assert!(matches!(render::<()>("{% for %}", &[], false), Err(Error::Malformed(_))));
    }

    #[test]
    fn methods_of_python_work() {
        let cases = [
            ("{{ 'a,b,c'.split(',')[-1] }}", "c"),
            ("{{ 'a,b,c'.split(',', 1)[1] }}", "b,c"),
            ("{{ {'a': 1}.get('b', 'none') }}", "none"),
            ("{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}", "a1"),
            ("{{ 'abc'.startswith('ab') }}", "True"),
            ("{{ '--x--'.lstrip('-') }}", "x--"),
        ];
        for (template, wanted) in cases {
            assert!(render::<()>(template, &[], false).unwrap().eq_ignore_ascii_case(wanted), "{template}");
        }
    }
}
