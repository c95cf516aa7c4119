//! Conditions of pods that the server itself sets.

use k8s_openapi::api::core::v1::PodCondition;

/// Gives a pod this condition in the place of the one of its type. The time of the last transition
/// stays where the status does (upstream `UpdatePodCondition`, pkg/api/v1/pod/util.go, v1.35).
pub(super) fn set(conditions: &mut Vec<PodCondition>, mut condition: PodCondition) {
    match conditions.iter_mut().find(|known| known.type_ == condition.type_) {
        Some(known) => {
            if known.status == condition.status {
                condition.last_transition_time.clone_from(&known.last_transition_time);
            }
            *known = condition;
        }
        None => conditions.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn condition(status: &str, second: i64) -> PodCondition {
        PodCondition {
            type_: "Ready".to_owned(),
            status: status.to_owned(),
            last_transition_time: Some(Time(Timestamp::from_second(second).unwrap())),
            ..PodCondition::default()
        }
    }

    #[test]
    fn a_condition_changes_its_time_with_its_status() {
        let mut conditions = Vec::new();
        for (status, second, since) in [("True", 1, 1), ("True", 2, 1), ("False", 3, 3)] {
            set(&mut conditions, condition(status, second));
            assert_eq!(conditions, [condition(status, since)]);
        }
    }
}
