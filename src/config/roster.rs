//! Changes of the list of agents in a configuration.

use offshoot_actors::types::AgentId;
use serde_json::{Map, Value, json};

use super::agents::normalise;

/// What a client says of an agent.
#[derive(Debug, Clone, Default)]
pub struct NewAgent {
    /// Its name; its id is made of it.
    pub name: String,
    /// Where its files are.
    pub workspace: Option<String>,
    /// Its model.
    pub model: Option<String>,
    /// Its sign in clients.
    pub emoji: Option<String>,
    /// Its picture in clients.
    pub avatar: Option<String>,
}

/// Why the list cannot be changed so.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RosterError {
    /// Nothing is left of the name.
    #[error("agent name required")]
    Unnamed,
    /// The id is the one of the agent that is always there.
    #[error("\"main\" is reserved: choose another name")]
    Reserved,
    /// There is one.
    #[error("agent \"{0}\" already exists")]
    Exists(AgentId),
    /// It is always there.
    #[error("\"main\" cannot be deleted")]
    Main,
    /// The file does not list it.
    #[error("agent \"{0}\" is not in the configuration file: it exists because another setting names it")]
    NotListed(AgentId),
}

/// The file that lists agents in the place of this one, whose own values are `own`, and `whole` with what it includes.
#[must_use]
pub fn included(own: &Value, whole: &Value) -> Option<String> {
    let other =
        ["/agents/list", "/agents/entries"].into_iter().find(|at| own.pointer(at) != whole.pointer(at))?;
    // The nearest include on the way there is the one that counts.
    let named = [other, "/agents", ""].iter().find_map(|at| own.pointer(at)?.get("$include"));
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let files: Vec<String> = match named {
        Some(Value::Array(files)) => files.iter().filter_map(text).collect(),
        one => one.and_then(text).into_iter().collect(),
    };
    Some(if files.is_empty() { "another file".to_owned() } else { files.join(" or ") })
}

/// Adds an agent.
///
/// # Errors
/// Its name is no name, or taken.
pub fn create(document: &mut Value, new: &NewAgent) -> Result<AgentId, RosterError> {
    if !new.name.chars().any(char::is_alphanumeric) {
        return Err(RosterError::Unnamed);
    }
    let id = normalise(&new.name);
    if id == AgentId::main() {
        return Err(RosterError::Reserved);
    }
    if position(document, &id).is_some() {
        return Err(RosterError::Exists(id));
    }
    let entry = add(document, &id);
    say(entry, new);
    Ok(id)
}

/// Changes what is said of an agent. What is left out stays.
///
/// # Errors
/// None as yet: one that is not listed is from now on.
pub fn update(document: &mut Value, id: &AgentId, new: &NewAgent) -> Result<(), RosterError> {
    let entry = match position(document, id) {
        Some(place) => document.pointer_mut(&place),
        None => Some(add(document, id)),
    };
    if let Some(entry) = entry {
        say(entry, new);
    }
    Ok(())
}

/// Takes an agent out, with the bindings that lead to it. Returns how many those were.
///
/// # Errors
/// It is the main one, or not listed.
pub fn delete(document: &mut Value, id: &AgentId) -> Result<usize, RosterError> {
    if *id == AgentId::main() {
        return Err(RosterError::Main);
    }
    let is = |text: Option<&str>| text.is_some_and(|text| normalise(text) == *id);
    let mut found = false;
    if let Some(list) = document.pointer_mut("/agents/list").and_then(Value::as_array_mut) {
        list.retain(|agent| {
            !is(agent["id"].as_str()) || {
                found = true;
                false
            }
        });
    }
    if let Some(entries) = document.pointer_mut("/agents/entries").and_then(Value::as_object_mut) {
        entries.retain(|name, _| {
            !is(Some(name)) || {
                found = true;
                false
            }
        });
    }
    if !found {
        return Err(RosterError::NotListed(id.clone()));
    }
    let Some(bindings) = document.get_mut("bindings").and_then(Value::as_array_mut) else { return Ok(0) };
    let before = bindings.len();
    bindings.retain(|binding| !is(binding["agentId"].as_str()));
    Ok(before - bindings.len())
}

/// Where an agent stands, as a JSON pointer.
fn position(document: &Value, id: &AgentId) -> Option<String> {
    let list = document.pointer("/agents/list").and_then(Value::as_array);
    let listed = list.and_then(|list| {
        list.iter().position(|agent| agent["id"].as_str().is_some_and(|text| normalise(text) == *id))
    });
    if let Some(at) = listed {
        return Some(format!("/agents/list/{at}"));
    }
    let entries = document.pointer("/agents/entries").and_then(Value::as_object)?;
    let name = entries.keys().find(|name| normalise(name) == *id)?;
    Some(format!("/agents/entries/{}", name.replace('~', "~0").replace('/', "~1")))
}

/// Adds an entry for an agent, in the form that the file has.
fn add<'d>(document: &'d mut Value, id: &AgentId) -> &'d mut Value {
    let agents = member(document, "agents");
    if agents.get("entries").is_some_and(Value::is_object) && agents.get("list").is_none() {
        return member(member(agents, "entries"), id.as_str());
    }
    let list = agents.entry_or_list("list");
    // The first of a list is the default agent, and until now that was the one that is always there.
    if list.is_empty() && *id != AgentId::main() {
        list.push(json!({ "id": "main", "default": true }));
    }
    list.push(json!({ "id": id }));
    let last = list.len() - 1;
    &mut list[last]
}

/// The member of an object, which it becomes if it is something else.
fn member<'v>(value: &'v mut Value, name: &str) -> &'v mut Value {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    &mut value[name]
}

trait Lists {
    fn entry_or_list(&mut self, name: &str) -> &mut Vec<Value>;
}

impl Lists for Value {
    fn entry_or_list(&mut self, name: &str) -> &mut Vec<Value> {
        let value = member(self, name);
        loop {
            if let Value::Array(list) = value {
                return list;
            }
            *value = Value::Array(Vec::new());
        }
    }
}

fn say(entry: &mut Value, new: &NewAgent) {
    if !new.name.trim().is_empty() {
        member(entry, "name").clone_from(&new.name.trim().into());
    }
    for (name, text) in [("workspace", &new.workspace), ("model", &new.model)] {
        if let Some(text) = text {
            *member(entry, name) = text.as_str().into();
        }
    }
    for (name, text) in [("emoji", &new.emoji), ("avatar", &new.avatar)] {
        if let Some(text) = text {
            *member(member(entry, "identity"), name) = text.as_str().into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(name: &str) -> NewAgent {
        NewAgent { name: name.to_owned(), workspace: Some("/w".to_owned()), ..NewAgent::default() }
    }

    #[test]
    fn the_first_agent_of_a_list_does_not_become_the_default_one() {
        let mut document = json!({});
        assert_eq!(create(&mut document, &agent("Research Lab")).unwrap().as_str(), "research-lab");
        assert_eq!(
            document["agents"]["list"],
            json!([{ "id": "main", "default": true }, { "id": "research-lab", "name": "Research Lab", "workspace": "/w" }])
        );
        assert_eq!(
            create(&mut document, &agent("research LAB")).unwrap_err().to_string(),
            "agent \"research-lab\" already exists"
        );
        assert_eq!(create(&mut document, &agent("Main")), Err(RosterError::Reserved));
        assert_eq!(create(&mut document, &agent(" - ")), Err(RosterError::Unnamed));
    }

    #[test]
    fn a_list_that_another_file_holds_is_found_there() {
        let whole = json!({ "agents": { "list": [{ "id": "a" }] }, "gateway": {} });
        for (own, file) in [
            (json!({ "$include": "all.json5" }), Some("all.json5")),
            (json!({ "agents": { "$include": ["a.json5", "b.json5"] } }), Some("a.json5 or b.json5")),
            (json!({ "agents": { "list": { "$include": "list.json5" } } }), Some("list.json5")),
            (json!({ "agents": { "list": [{ "$include": "a.json5" }] } }), Some("another file")),
            (json!({ "$include": "rest.json5", "agents": { "list": [{ "id": "a" }] } }), None),
        ] {
            assert_eq!(included(&own, &whole).as_deref(), file, "{own}");
        }
        assert_eq!(included(&json!({}), &json!({ "gateway": {} })), None);
    }

    #[test]
    fn a_map_of_agents_stays_one() {
        let mut document = json!({ "agents": { "entries": { "main": {} } } });
        let id = create(&mut document, &agent("b")).unwrap();
        update(&mut document, &id, &NewAgent { emoji: Some("🐝".to_owned()), ..NewAgent::default() })
            .unwrap();
        assert_eq!(
            document["agents"]["entries"]["b"],
            json!({ "name": "b", "workspace": "/w", "identity": { "emoji": "🐝" } })
        );
        assert_eq!(document["agents"].get("list"), None);
        assert_eq!(delete(&mut document, &id), Ok(0));
        assert_eq!(document["agents"]["entries"], json!({ "main": {} }));
    }

    #[test]
    fn an_agent_goes_with_its_bindings_and_no_other() {
        let mut document = json!({ "agents": { "list": [{ "id": "main" }, { "id": "b" }] },
            "bindings": [{ "agentId": "b" }, { "agentId": "main" }] });
        let b = normalise("b");
        assert_eq!(delete(&mut document, &b), Ok(1));
        assert_eq!(document["bindings"], json!([{ "agentId": "main" }]));
        assert_eq!(delete(&mut document, &b), Err(RosterError::NotListed(b)));
        assert_eq!(delete(&mut document, &AgentId::main()), Err(RosterError::Main));
    }
}
