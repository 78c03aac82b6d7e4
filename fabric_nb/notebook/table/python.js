// Python expressions of the texts in a form.

/**
 * Return the Python expression for the text of a field.
 * @param text JSON, a Python literal, or text without quotes
 * @param kind of the field: empty for JSON or a literal, "texts" for a list, else the text is the value
 */
export function expression(text, kind) {
  if (kind === "texts" && !/^[[({"']/.test(text)) return literal(text.split(",").map((item) => item.trim()).filter(Boolean));
  if (kind && kind !== "texts") return isQuoted(text) || text === "None" ? text : JSON.stringify(text);
  try {
    return literal(JSON.parse(text));
  } catch {
    return isWords(text) ? JSON.stringify(text) : text;
  }
}

/** Return the pairs of name and expression in a JSON object; none if the text is none. */
export function expressions(text) {
  try {
    return Object.entries(JSON.parse(text)).map(([name, value]) => [name, literal(value)]);
  } catch {
    return [];
  }
}

function literal(value) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value !== "object") return JSON.stringify(value);
  const items = Object.entries(value).map(([key, item]) => `${JSON.stringify(key)}: ${literal(item)}`);
  return `{${items.join(", ")}}`;
}

function isQuoted(text) {
  return text.length > 1 && `'"`.includes(text[0]) && text.at(-1) === text[0];
}

function isWords(text) {
  return /^[\p{L}_][^[\](){}'"]*$/u.test(text) && !/^(True|False|None)$/.test(text);
}
