//! Naming templates by a hash of what they say.

use crate::stdx::fnv1a_32;
use crate::stdx::json;
use k8s_openapi::api::core::v1::PodTemplateSpec;

/// The characters of a hash: no vowels, so that no words come about, and no digits that look like
/// letters. Upstream's `rand.SafeEncodeString`.
const SAFE_CHARACTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// The hash of a template. Another one after every collision.
///
/// It is FNV-1a over the template's JSON and need not be what upstream computes: it names what is
/// new, while what is there is found by comparing templates.
pub(super) fn template_hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    let json = json::to_vec(template);
    let collisions = collisions.filter(|count| *count != 0);
    let salt = collisions.map(i32::to_le_bytes).unwrap_or_default();
    let salt = if collisions.is_some() { &salt[..] } else { &[] };
    let hash = fnv1a_32(json.iter().chain(salt).copied());
    let digits = hash.to_string().into_bytes();
    let safe = |digit: u8| char::from(SAFE_CHARACTERS[usize::from(digit) % SAFE_CHARACTERS.len()]);
    digits.into_iter().map(safe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn hashes_are_stable_and_fit_into_names_and_labels() {
        let template = |image: &str| -> PodTemplateSpec {
            let containers = json!([{"name": "c", "image": image}]);
            serde_json::from_value(json!({"spec": {"containers": containers}})).unwrap()
        };
        // Written down so that a new release does not roll out every workload anew.
        assert_eq!(template_hash(&template("i"), None), "677c74d6dd");
        assert_eq!(template_hash(&template("i"), Some(0)), "677c74d6dd");
        let collided = template_hash(&template("i"), Some(1));
        assert_ne!(collided, template_hash(&template("i"), None));
        assert_ne!(template_hash(&template("j"), None), template_hash(&template("i"), None));
        assert!(collided.bytes().all(|byte| SAFE_CHARACTERS.contains(&byte)));
    }
}
