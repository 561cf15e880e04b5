// Shows the server's description of its interface (OpenAPI 3.1): a section for each family of routes, a route an entry.

const description = await (await fetch("/openapi.json")).json();

/** An element with attributes and children; texts are never read as HTML. */
function element(name, attributes, ...children) {
  const made = Object.assign(document.createElement(name), attributes);
  made.append(...children);
  return made;
}

/** What a schema or a reference to one stands for. */
function resolved(schema) {
  const name = schema?.$ref?.split("/").pop();
  return name ? description.components.schemas[name] : schema;
}

/** A schema in a few words: `integer`, `Job`, `list of Job`. */
function type(schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.oneOf || schema.anyOf) return (schema.oneOf ?? schema.anyOf).map(type).filter((word) => word !== "null").join(" | ");
  if (schema.items) return `list of ${type(schema.items)}`;
  return [schema.type ?? "any"].flat().filter((word) => word !== "null").join(" | ");
}

/** Rows of names, types and descriptions. */
function table(rows) {
  const line = ([name, kind, text]) =>
    element("tr", {}, element("td", {}, element("code", { textContent: name })), element("td", { textContent: kind }), element("td", { textContent: text ?? "" }));
  return element("table", {}, element("tbody", {}, ...rows.map(line)));
}

/** The fields of an object, or of the objects of a list. */
function fields(schema) {
  const found = resolved(schema);
  const object = found?.items ? resolved(found.items) : found;
  const all = [object, ...(object?.allOf ?? []).map(resolved)].flatMap((part) => Object.entries(part?.properties ?? {}));
  return all.map(([name, field]) => [name, type(field), field.description ?? resolved(field)?.description]);
}

function route(path, method, operation) {
  const parts = [];
  if (operation.parameters?.length) {
    parts.push(element("h3", { textContent: "Parameters" }));
    parts.push(table(operation.parameters.map((one) => [one.name, type(one.schema), one.description])));
  }
  for (const [media, { schema }] of Object.entries(operation.requestBody?.content ?? {})) {
    parts.push(element("h3", { textContent: `Request: ${media}` }), table(fields(schema)));
  }
  for (const [status, answer] of Object.entries(operation.responses)) {
    const [[media, content] = []] = Object.entries(answer.content ?? {});
    const kind = media ? `${type(content.schema)} (${media})` : "nothing";
    parts.push(element("h3", { textContent: `${status}: ${kind}` }));
    if (answer.description) parts.push(element("p", { textContent: answer.description }));
    if (status.startsWith("2") && content) parts.push(table(fields(content.schema)));
  }
  const verb = element("span", { className: "method", textContent: method.toUpperCase() });
  const summary = element("summary", {}, verb, element("code", { textContent: path }), ` ${operation.summary ?? ""}`);
  return element("details", {}, summary, ...parts);
}

document.querySelector("#description").textContent = description.info.description;
const routes = Object.entries(description.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => [path, method, operation]),
);
const sections = description.tags.map((tag) => {
  const own = routes.filter(([, , operation]) => operation.tags?.includes(tag.name));
  return element("section", {}, element("h2", { textContent: tag.name }), element("p", { textContent: tag.description }), ...own.map((one) => route(...one)));
});
document.querySelector("#routes").replaceChildren(...sections);
