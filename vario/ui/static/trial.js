export function trialPage(frame, { parts }) {
  frame.crumbs([["runs", "#/runs"], [parts[0] ?? ""]], "trial");
  return { leave() {} };
}
