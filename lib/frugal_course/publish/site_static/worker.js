// Python in the reader's browser: the library's own modules, as they are, answer for an explorer.
import { loadPyodide } from "./pyodide/pyodide.mjs";

const folder = new URL("./python/", import.meta.url);

async function modules() {
  const names = await (await fetch(new URL("files.json", folder))).json();
  const read = async (name) => [name, await (await fetch(new URL(name, folder))).arrayBuffer()];
  return Promise.all(names.map(read));
}

const ready = Promise.all([loadPyodide(), modules()]).then(([python, files]) => {
  for (const [name, bytes] of files) {
    const path = `/frugal/${name}`;
    python.FS.mkdirTree(path.slice(0, path.lastIndexOf("/")));
    python.FS.writeFile(path, new Uint8Array(bytes));
  }
  python.runPython("import sys; sys.path.insert(0, '/frugal')");
  const { answered } = python.pyimport("frugal_course.calculators.page");
  return (name, given, moved) => {
    const values = python.toPy(given);
    try {
      return answered(name, values, moved);
    } finally {
      values.destroy();
    }
  };
});

onmessage = async ({ data: { name, given, moved } }) => {
  try {
    const answer = await ready;
    postMessage(JSON.parse(answer(name, given, moved)));
  } catch (error) {
    postMessage({ failed: String(error) });
  }
};
