// Plugins > CellScribble > CellScribble Train
// run("CellScribble Train", "images=[folder] scribbles=[folder] minutes=5 output=[]");
// Scribbles: by default in the folder of the images, where Annotate puts them.

begin("images scribbles minutes# output");
images = "";
scribbles = "";
if (!by_macro) {
    // Where Annotate was last at work.
    images = call("ij.Prefs.get", "cellscribble.images", "");
    scribbles = call("ij.Prefs.get", "cellscribble.strokes", "");
}
Dialog.create("CellScribble Train");
Dialog.addDirectory("Images", images);
Dialog.addString("Scribbles (folder; empty: beside the images)", scribbles, 30);
Dialog.addNumber("Minutes", 5);
Dialog.addString("Output (folder of the run; empty: a new one)", "", 30);
Dialog.show();
images = full_path(Dialog.getString());
scribbles = full_path(Dialog.getString());
minutes = next_number("Minutes");
output = full_path(Dialog.getString());

if (images == "" || !File.exists(images)) fail("there is no folder of images " + images + "; choose one with Images");
if (scribbles == "") scribbles = images;
if (output == "") {
    getDateAndTime(year, month, week, day, hour, minute, second, millisecond);
    output = images + File.separator + "cellscribble_runs" + File.separator
        + year + "-" + IJ.pad(month + 1, 2) + "-" + IJ.pad(day, 2) + "_" + IJ.pad(hour, 2) + IJ.pad(minute, 2) + IJ.pad(second, 2);
}
showStatus("CellScribble trains for " + minutes + " min ...");
answer = exec(python, "-P", "-m", "cellscribble", "--macro", "train", images, scribbles, "--minutes", d2s(minutes, 3), "-o", output);
// Predict offers it. Where one image could not be used there is an error, and a model of the others.
if (File.exists(output + File.separator + "model.onnx")) call("ij.Prefs.set", "cellscribble.model", output + File.separator + "model.onnx");
model = answer_of(answer);
done(model);
showStatus("CellScribble: trained, model " + model);

// include common.ijm
