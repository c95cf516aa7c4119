#!/usr/bin/env python3
"""Writes facts.txt, the source of the schema table, from upstream's published documents.

    facts.py OPENAPI PROTOS GO K8S_OPENAPI > facts.txt

OPENAPI      a folder with swagger.json and v3/ (Kubernetes: api/openapi-spec)
PROTOS       a folder with upstream's generated.proto files of the release, at any depth
GO           a folder with upstream's zz_generated.openapi.go and types.go files, at any depth (for
             enums and pointers)
K8S_OPENAPI  the v1_NN folder of the k8s-openapi crate: it decides which types and fields exist

Only facts are taken: names, types, numbers, semantics. What is ambiguous is reported on stderr.
Run it when the Kubernetes version changes, and review the difference.
"""

import json
import re
import sys
from pathlib import Path

HEADER = """\
# What is true of each field of each type of Kubernetes 1.35. build.rs makes tables of it; facts.py
# wrote it from upstream's published documents.
#
#   package SHORT NAME GROUP/VERSION      NAME is the prefix of the OpenAPI names that follow
#   kind NAME [fact...]                   a type with a group, version and kind of its own
#   type NAME [fact...]                   any other type
#     FIELD NUMBER TYPE [fact...]         JSON name; protobuf number (`2.7`: number 7 inside the
#                                         message that is number 2; `-`: not in protobuf)
#
# TYPE  string bool int32 int64 double bytes quantity int-or-string time micro-time object any,
#       a type of this package, PACKAGE.NAME, [TYPE] a list, {TYPE} a map with string keys
# facts of types   atomic (a map-like struct that is owned as a whole), any (free-form JSON),
#                  union=FIELD:A=X,B=Y (of A and B the one is set whose value FIELD has)
# facts of fields  required, zero (the default is the type's zero value), default=JSON,
#                  list=atomic|set|map:KEYS, map=atomic|granular, patch=STRATEGY, key=MERGEKEY,
#                  enum=A|B (a `~` stands for a space), deprecated,
#                  wrapped (in protobuf the list is a message),
#                  pointer (a zero of this scalar is a value; elsewhere it is absence)
# The fields of an `any` type are those of its protobuf message; its JSON is one of them.
"""

# Kinds that only protobuf has a message for: OpenAPI leaves them out.
META = "io.k8s.apimachinery.pkg.apis.meta.v1"
PROTO_KINDS = [f"{META}.PartialObjectMetadata", f"{META}.PartialObjectMetadataList"]
# Types that are values of their own and not structs.
SCALARS = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "quantity",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "int-or-string",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Time": "time",
    "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime": "micro-time",
    "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1": "object",
    "io.k8s.apimachinery.pkg.runtime.RawExtension": "object",
}
ANY_TYPES = re.compile(r"\.apiextensions\.v1\.(JSON|JSONSchemaPropsOr\w+)$|\.meta\.v1\.Patch$")
PROTO_SCALARS = {"string": "string", "bool": "bool", "int32": "int32", "int64": "int64",
                 "double": "double", "bytes": "bytes"}
GROUP_SUFFIX = {
    "admissionregistration": ".k8s.io", "apiextensions": ".k8s.io", "apiregistration": ".k8s.io",
    "apiserverinternal": None, "authentication": ".k8s.io", "authorization": ".k8s.io",
    "certificates": ".k8s.io", "coordination": ".k8s.io", "discovery": ".k8s.io",
    "events": ".k8s.io", "flowcontrol": ".apiserver.k8s.io", "networking": ".k8s.io",
    "node": ".k8s.io", "rbac": ".authorization.k8s.io", "resource": ".k8s.io",
    "scheduling": ".k8s.io", "storage": ".k8s.io", "storagemigration": ".k8s.io",
}


def complain(*words):
    print(*words, file=sys.stderr)


class Protos:
    """Messages by name: {field: (number, type, repeated, comment)}."""

    def __init__(self, folder):
        self.messages = {}
        for path in sorted(Path(folder).rglob("generated.proto")):
            self.read(path.read_text())

    def read(self, text):
        package = re.search(r"^package ([\w.]+);", text, re.M).group(1)
        message, comment = None, []
        for line in text.splitlines():
            line = line.strip()
            if line.startswith("//"):
                comment.append(line[2:].strip())
                continue
            opened = re.match(r"message (\w+) \{(\})?", line)
            field = re.match(r"(optional|repeated)?\s*(map<[^>]+>|[\w.]+) (\w+) = (\d+);", line)
            if opened:
                message = self.messages.setdefault(f"{package}.{opened[1]}", {})
            elif message is not None and field:
                kind = re.sub(r"(^|[ ,])\.k8s", r"\1k8s", field[2])
                kind = self.qualify(kind, package)
                message[field[3]] = (int(field[4]), kind, field[1] == "repeated", "\n".join(comment))
            comment = []

    def qualify(self, kind, package):
        if kind.startswith("map<"):
            value = kind[4:-1].split(",")[1].strip().lstrip(".")
            return f"map<{self.qualify(value, package)}>"
        return kind if "." in kind or kind in PROTO_SCALARS else f"{package}.{kind}"


def proto_name(name):
    return "k8s.io." + name.removeprefix("io.k8s.").replace("-", "_")


def field_key(json_name):
    """The protobuf name of a JSON field: `$ref` is `ref`, `x-kubernetes-a` is `xKubernetesA`."""
    words = json_name.lstrip("$").split("-")
    return words[0] + "".join(word.capitalize() for word in words[1:])


def numbers(protos, message, wanted, depth=0):
    """{JSON name: (number path, proto type, repeated, comment)}, embedded structs unfolded."""
    found = {}
    for name, (number, kind, repeated, comment) in protos.messages.get(message, {}).items():
        match = next((w for w in wanted if field_key(w).lower() == name.lower()), None)
        if match is not None:
            found[match] = (str(number), kind, repeated, comment)
        elif kind in protos.messages and not repeated and depth < 2:
            for inner, (path, *rest) in numbers(protos, kind, wanted, depth + 1).items():
                found.setdefault(inner, (f"{number}.{path}", *rest))
    return found


def type_from_proto(kind, repeated):
    if repeated:
        return {"type": "array", "items": type_from_proto(kind, False)}
    if kind.startswith("map<"):
        return {"type": "object", "additionalProperties": type_from_proto(kind[4:-1], False)}
    plain = {"string": {"type": "string"}, "bool": {"type": "boolean"},
             "int32": {"type": "integer", "format": "int32"},
             "int64": {"type": "integer", "format": "int64"},
             "bytes": {"type": "string", "format": "byte"}}
    return plain.get(kind) or {"$ref": "#/definitions/io.k8s." + kind.removeprefix("k8s.io.").replace("_", "-")}


def schema_from_proto(kind, repeated, comment):
    """A field's schema from its message and the markers in its comment."""
    schema = type_from_proto(kind, repeated)
    for marker, word in [("listType", "list-type"), ("mapType", "map-type"),
                         ("patchStrategy", "patch-strategy"), ("patchMergeKey", "patch-merge-key")]:
        found = re.search(rf"^\+{marker}=(\S+)", comment, re.M)
        if found:
            schema[f"x-kubernetes-{word}"] = found[1]
    keys = re.findall(r"^\+listMapKey=(\S+)", comment, re.M)
    if keys:
        schema["x-kubernetes-list-map-keys"] = keys
    schema["required?"] = not re.search(r"^\+optional", comment, re.M)
    return schema


def read_k8s_openapi(folder):
    """{OpenAPI name: JSON names of its fields} as the crate has them."""
    types = {}
    for path in sorted(Path(folder).rglob("*.rs")):
        text = path.read_text()
        origin = re.search(r"^// Generated from definition ([\w.-]+)", text)
        if origin and origin[1] != "io.k8s.List" and re.search(r"^pub struct ", text, re.M):
            types[origin[1]] = set(re.findall(r'^\s*"([^"]+)" => Field::Key', text, re.M))
    return types


def reconcile(definitions, crate, protos):
    """Adds and removes types and fields until they are those of the crate."""
    for name in list(definitions):
        is_list = name.endswith("List") and "items" in definitions[name].get("properties", {})
        stays = name in crate or name in SCALARS or ANY_TYPES.search(name) or name.endswith("WatchEvent")
        if is_list:
            item = definitions[name]["properties"]["items"]["items"].get("$ref", "").split("/")[-1]
            stays = item in crate
        if not stays and definitions[name].get("properties"):
            complain("dropped type", name)
            del definitions[name]
    for name, fields in sorted(crate.items()):
        if name not in definitions:
            complain("added type", name)
            definitions[name] = {"type": "object", "properties": {}}
            if fields >= {"apiVersion", "kind", "metadata"}:
                add_kind(definitions, name)
        properties = definitions[name].get("properties", {})
        for field in sorted(set(properties) - fields):
            complain("dropped field", name, field)
            del properties[field]
        for field in sorted(fields - set(properties)):
            complain("added field", name, field)
            add_field(definitions[name], name, field, protos)


def add_kind(definitions, name):
    package, kind = name.rsplit(".", 1)
    group, version = package.split(".")[-2:]
    gvk = {"group": group + (GROUP_SUFFIX.get(group) or ""), "version": version}
    definitions[name]["x-kubernetes-group-version-kind"] = [{**gvk, "kind": kind}]
    string, meta = {"type": "string"}, "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"
    definitions[name + "List"] = {
        "type": "object", "required": ["items"],
        "properties": {"apiVersion": string, "kind": string, "metadata": {"$ref": meta, "zero": True},
                       "items": {"type": "array", "items": {"$ref": f"#/definitions/{name}"}}},
        "x-kubernetes-group-version-kind": [{**gvk, "kind": kind + "List"}],
    }


def add_proto_types(definitions, protos):
    """The kinds that only protobuf has, and the messages behind free-form JSON."""
    string = {"type": "string"}
    for name in PROTO_KINDS:
        definitions[name] = {"x-kubernetes-group-version-kind": [{}],
                             "properties": {"apiVersion": string, "kind": string}}
    for name, definition in definitions.items():
        if name in PROTO_KINDS or ANY_TYPES.search(name):
            properties = definition.setdefault("properties", {})
            for field, (_, kind, repeated, _) in protos.messages.get(proto_name(name), {}).items():
                properties[field] = type_from_proto(kind, repeated)


def add_field(definition, name, field, protos):
    properties = definition.setdefault("properties", {})
    known = numbers(protos, proto_name(name), [field])
    if field in known:
        _, kind, repeated, comment = known[field]
        schema = schema_from_proto(kind, repeated, comment)
        if schema.pop("required?") and field != "metadata":
            definition.setdefault("required", []).append(field)
            if "$ref" in schema or schema["type"] not in ("array", "object"):
                schema["zero"] = True
        properties[field] = schema
    elif field in ("apiVersion", "kind"):
        properties[field] = {"type": "string"}
    else:
        complain("no facts for", name, field)


def read_enums(folder):
    """{(OpenAPI name, field): values}. Upstream leaves enums out of its OpenAPI documents."""
    enums = {}
    for path in Path(folder).rglob("zz_generated.openapi.go"):
        name, stack = None, []
        for line in path.read_text().splitlines():
            function = re.match(r"func schema_(\w+)\(", line)
            opened = re.match(r'(\t+)"([^"]+)": \{$', line)
            enum = re.match(r"(\t+)Enum:\s+\[\]interface\{\}\{(.*)\},$", line)
            if function:
                name = function[1]
            elif opened:
                stack = [s for s in stack if s[0] < len(opened[1])] + [(len(opened[1]), opened[2])]
            elif enum:
                inside = [s for s in stack if s[0] < len(enum[1])]
                enums[name, inside[-1][1]] = json.loads(f"[{enum[2]}]")
    return enums


def enum_key(name):
    """The middle of upstream's function name for a type: `api_core_v1_Pod`."""
    return "_".join(name.split(".")[-3:])


def ref_of(schema):
    ref = schema.get("$ref")
    for part in schema.get("allOf", []):
        ref = ref or part.get("$ref")
    return ref and ref.split("/")[-1]


def type_text(schema, package, shorts):
    ref = ref_of(schema)
    if ref in SCALARS:
        return SCALARS[ref]
    if ref:
        home, name = ref.rsplit(".", 1)
        return name if home == package else f"{shorts[home]}.{name}"
    if schema.get("type") == "array":
        return f"[{type_text(schema['items'], package, shorts)}]"
    if "additionalProperties" in schema:
        return "{" + type_text(schema["additionalProperties"], package, shorts) + "}"
    form = schema.get("format")
    names = {"string": "bytes" if form == "byte" else "string", "boolean": "bool", "number": "double",
             "integer": form or "int64", "object": "object"}
    return names.get(schema.get("type"), "any")


DEPRECATED = re.compile(r"(^|[.\n]\s*)deprecated\b", re.I)
ZEROES = ("", 0, False, {})


def field_facts(name, schema, required, extras):
    facts = ["required"] if name in required else []
    default = extras.get("default", {} if schema.get("zero") else None)
    if default is not None:
        zero = any(default == z and type(default) is type(z) for z in ZEROES)
        facts.append("zero" if zero else "default=" + json.dumps(default, separators=(",", ":")))
    kind = schema.get("x-kubernetes-list-type")
    if kind:
        keys = ",".join(schema.get("x-kubernetes-list-map-keys", []))
        facts.append(f"list={kind}:{keys}" if keys else f"list={kind}")
    for word, fact in [("map-type", "map"), ("patch-strategy", "patch"), ("patch-merge-key", "key")]:
        if f"x-kubernetes-{word}" in schema:
            facts.append(f"{fact}=" + schema[f"x-kubernetes-{word}"])
    if extras.get("enum"):
        facts.append("enum=" + "|".join(extras["enum"]).replace(" ", "~"))
    if DEPRECATED.search(schema.get("description", "")):
        facts.append("deprecated")
    return facts


def short_name(package):
    parts = package.split(".")
    return "/".join(parts[-2:]) if re.match(r"v\d", parts[-1]) else parts[-1]


def group_version(package, types):
    if package.endswith(".meta.v1"):
        return "/v1"
    for definition in types.values():
        gvks = definition.get("x-kubernetes-group-version-kind", [])
        if len(gvks) == 1:
            return f"{gvks[0]['group']}/{gvks[0]['version']}"
    return "-"


def print_type(name, definition, context):
    package, short = name.rsplit(".", 1)
    is_kind = "x-kubernetes-group-version-kind" in definition
    facts = []
    if definition.get("x-kubernetes-map-type") == "atomic":
        facts.append("atomic")
    if ANY_TYPES.search(name):
        facts.append("any")
    for union in definition.get("x-kubernetes-unions", []):
        fields = union["fields-to-discriminateBy"].items()
        fields = ",".join(f"{field}={value}" for field, value in sorted(fields))
        facts.append(f"union={union['discriminator']}:{fields}")
    print(" ".join(["kind" if is_kind else "type", short, *facts]))
    properties = definition.get("properties", {})
    in_proto = numbers(context["protos"], proto_name(name), list(properties))
    for field, schema in sorted(properties.items(), key=lambda item: item[0].encode()):
        path, kind, _, _ = in_proto.get(field, ("-", None, None, None))
        if path == "-" and field not in ("apiVersion", "kind") and in_proto:
            complain("no protobuf number", name, field)
        v3 = context["v3"].get(name, {}).get("properties", {}).get(field, {})
        enum = [v for k, v in context["enums"].items() if k[1] == field and k[0].endswith(enum_key(name))]
        extras = {"default": v3.get("default"), "enum": enum[0] if enum else None}
        facts = field_facts(field, schema, definition.get("required", []), extras)
        text = type_text(schema, package, context["shorts"])
        if kind and text.lstrip("{").startswith("[string") and ".v1." in kind:
            facts.append("wrapped")
        if "wrapped" not in facts:
            check_proto(name, field, text, kind)
        if text in POINTED and (short_name(package), short, field) in context["pointers"]:
            facts.append("pointer")
        print(" ".join(["  " + field, path, text, *facts]))


GO_STRUCT = re.compile(r"^type (\w+) struct \{\n(.*?)^\}", re.M | re.S)
GO_FIELD = re.compile(r'^\t(\w+\s+)?([*\w.\[\]]+)\s+`json:"([^",]*)([^"]*)"', re.M)
POINTED = ("string", "bool", "int32", "int64", "double")


def read_pointers(go):
    """The fields that Go has as pointers, as (package, type, field)."""
    structs = {}
    for path in sorted(go.rglob("types*.go")):
        package = "/".join(path.parts[-3:-1])
        for name, body in GO_STRUCT.findall(path.read_text()):
            structs[package, name] = GO_FIELD.findall(body)
    found = set()

    def visit(package, name, owner):
        for _, kind, field, options in structs.get((package, name), []):
            if field:
                if kind.startswith("*"):
                    found.add((*owner, field))
            elif "inline" in options or not options:
                visit(package, kind.lstrip("*"), owner)

    for package, name in structs:
        visit(package, name, (package, name))
    return found


def check_proto(name, field, text, kind):
    inner = text.strip("[]{}")
    if kind and inner in PROTO_SCALARS.values() and kind.removeprefix("map<").rstrip(">") != inner:
        complain("protobuf differs", name, field, text, kind)


def main():
    openapi, protos, go, crate = map(Path, sys.argv[1:])
    protos = Protos(protos)
    definitions = json.loads((openapi / "swagger.json").read_text())["definitions"]
    v3 = {}
    for path in sorted((openapi / "v3").glob("*.json")):
        v3.update(json.loads(path.read_text()).get("components", {}).get("schemas", {}))
    reconcile(definitions, read_k8s_openapi(crate), protos)
    add_proto_types(definitions, protos)
    packages = {}
    for name, definition in definitions.items():
        if name not in SCALARS:
            packages.setdefault(name.rsplit(".", 1)[0], {})[name] = definition
    shorts = {package: short_name(package) for package in packages}
    context = {"protos": protos, "v3": v3, "enums": read_enums(go), "shorts": shorts,
               "pointers": read_pointers(go)}
    print(HEADER)
    for package, types in sorted(packages.items()):
        print("package", shorts[package], package, group_version(package, types))
        for name, definition in sorted(types.items()):
            print_type(name, definition, context)
        print()


main()
