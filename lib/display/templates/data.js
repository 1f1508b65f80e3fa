// What the page holds: the images, their pictures, the categories.

const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("data").textContent);
const COUNT = data.names.length;
const teachable = data.modelCategories > 0;
const audited = new Set(data.audited);
const numberOf = new Map(data.names.map((name, image) => [name, image]));

function element(tag, properties = {}, ...content) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...content);
  return made;
}

const counted = (number, noun, plural = noun + "s") => `${number.toLocaleString("en")} ${number === 1 ? noun : plural}`;
const percent = (share) => (Number.isNaN(share) ? "–" : `${Math.round(100 * share)} %`);

const shownName = (image) => data.shownNames[image] ?? data.names[image];
const baseName = (image) => shownName(image).slice(shownName(image).lastIndexOf("/") + 1);

const hasRights = Object.keys(data.rights).length > 0;
const rightsOf = (image) => data.rights[image] ?? "";

function folderOf(image) {
  const name = shownName(image), folder = name.slice(0, name.lastIndexOf("/") + 1);
  return folder.startsWith(data.prefix) ? folder.slice(data.prefix.length) : folder;
}

// The pictures stand in the page as lines of text: a browser would take twice as long to open them as addresses.
const lines = {};

function picture(kind, image) {
  lines[kind] ??= byId(kind).textContent.split("\n");
  const text = lines[kind][image];
  return text && `data:image/${text.startsWith("/9j/") ? "jpeg" : "webp"};base64,${text}`;
}

const smallPicture = (image) => picture("small", image);
const largestPicture = (image) => picture("larger", image) || smallPicture(image);

// A browser can't show all kinds of files.
const displayable = (image) => /\.(jpe?g|png|gif|webp|bmp|avif)$/i.test(data.names[image]);

function arrayOf(id, Kind) {
  const bytes = Uint8Array.from(atob(byId(id).textContent.trim()), (character) => character.charCodeAt(0));
  return new Kind(bytes.buffer);
}

// The categories: those of the model, others of the table, then those that the reader adds.
const categories = data.labels.map((label, place) => ({
  label, shown: data.shownLabels[place], full: data.fullNames[place],
}));
const placeOf = new Map(data.labels.map((label, place) => [label, place]));
const modelLabels = new Set(data.labels.slice(0, teachable ? data.modelCategories : undefined)); // else those of the table

function categoryOf(label) {
  // The place of a category, which is added if it is new.
  if (!placeOf.has(label)) {
    placeOf.set(label, categories.length);
    categories.push({ label, shown: label, full: "" });
  }
  return placeOf.get(label);
}

const canonical = (label) => label.normalize("NFC").replace(/\s+/g, " ").trim();

function objectionTo(label) {
  // Why a text can't name a category: it is one column of a table and the name of a folder.
  if (/[\p{C}\p{Zl}\p{Zp}]/u.test(label)) return "a name can't hold characters that nobody sees";
  if (/[/\\]/.test(label) || label.startsWith(".")) return "a name can't hold a slash or begin with a dot";
  return label.length > 60 ? "a name has at most 60 characters" : "";
}
