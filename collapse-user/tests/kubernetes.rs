//! The manifest for nodes with VMs is what the own types of Kubernetes make of it, and fits the program.

mod exporter;

use exporter::collapse;
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{Container, Namespace},
    networking::v1::NetworkPolicy,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use yaml_rust2::{Yaml, YamlLoader};

const MANIFEST: &str = include_str!("../../docs/contrib/kubernetes/collapse.yaml");

/// The objects of the manifest.
fn objects() -> [Value; 3] {
    let objects = YamlLoader::load_from_str(MANIFEST).expect("YAML");
    let objects: Vec<_> = objects.iter().map(json).collect();
    objects.try_into().expect("three objects")
}

fn json(yaml: &Yaml) -> Value {
    match yaml {
        Yaml::String(text) => text.as_str().into(),
        Yaml::Integer(number) => (*number).into(),
        Yaml::Boolean(truth) => (*truth).into(),
        Yaml::Array(items) => items.iter().map(json).collect(),
        Yaml::Hash(fields) => {
            let field = |(key, value): (&Yaml, &Yaml)| {
                (key.as_str().expect("a key").to_owned(), json(value))
            };
            Value::Object(fields.iter().map(field).collect())
        }
        other => panic!("{other:?} is not for manifests"),
    }
}

/// Reads an object as Kubernetes does. What has no place in its type does not come back.
fn typed<T: DeserializeOwned + Serialize>(object: &Value) -> T {
    let typed: T = serde_json::from_value(object.clone()).expect("an object of this kind");
    assert_eq!(serde_json::to_value(&typed).expect("JSON"), *object);
    typed
}

fn container(set: DaemonSet) -> Container {
    let pod = set.spec.expect("a specification").template.spec.expect("a pod");
    assert_eq!(pod.host_pid, Some(true));
    let volumes: Vec<_> = pod.volumes.iter().flatten().map(|volume| volume.name.as_str()).collect();
    let [container] = <[Container; 1]>::try_from(pod.containers).expect("a container");
    let mounts = container.volume_mounts.iter().flatten().map(|mount| mount.name.as_str());
    assert_eq!(mounts.collect::<Vec<_>>(), volumes);
    container
}

#[test]
fn every_object_is_one_of_kubernetes() {
    let [namespace, set, policy] = objects();
    let namespace: Namespace = typed(&namespace);
    let set: DaemonSet = typed(&set);
    let policy: NetworkPolicy = typed(&policy);
    let specification = set.spec.as_ref().expect("a specification");
    let labels = specification.template.metadata.as_ref().and_then(|pod| pod.labels.as_ref());
    let labels = labels.expect("labels of pods");
    assert_eq!(specification.selector.match_labels.as_ref(), Some(labels));
    let chosen = policy.spec.and_then(|policy| policy.pod_selector).expect("chosen pods");
    assert_eq!(chosen.match_labels.as_ref(), Some(labels));
    for object in [&set.metadata, &policy.metadata] {
        assert_eq!(object.namespace, namespace.metadata.name);
    }
    container(set);
}

#[test]
fn the_program_takes_its_arguments() {
    let [_, set, _] = objects();
    let container = container(typed(&set));
    let arguments = container.args.expect("arguments");
    let ports = container.ports.expect("ports");
    let [port] = &ports[..] else { panic!("{ports:?}") };
    assert!(arguments.contains(&format!("0.0.0.0:{}", port.container_port)), "{arguments:?}");
    let image = container.image.expect("an image");
    assert!(image.ends_with(concat!(":", env!("CARGO_PKG_VERSION"))), "{image}");
    // An argument that is refused comes before the help.
    let with_help: Vec<_> = arguments.iter().map(String::as_str).chain(["--help"]).collect();
    let output = collapse(&with_help).output().expect("running it");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
}
