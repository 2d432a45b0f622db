// Plugins > CellScribble > CellScribble Predict
// run("CellScribble Predict", "model=[model.onnx] input=[] output=[] rois");
// Input: an image file, a folder, or nothing for the open image; of that only the selection's rectangle, if there is one.

var model = "", input = "", output = "", rois = true, overwrite = "";

begin();
if (!by_macro) model = call("ij.Prefs.get", "cellscribble.model", "");
Dialog.create("CellScribble Predict");
Dialog.addFile("Model", model);
Dialog.addString("Input (file or folder; empty: the open image)", "", 30);
Dialog.addString("Output (folder; empty: show only)", "", 30);
Dialog.addCheckbox("ROIs to the ROI Manager", true);
Dialog.addCheckbox("Overwrite results that exist", false);
Dialog.show();
model = Dialog.getString();
input = no_separator(Dialog.getString());
output = no_separator(Dialog.getString());
rois = Dialog.getCheckbox();
// The program takes a fixed number of words here: the second is its default, said aloud.
overwrite = "--no-overlay";
if (Dialog.getCheckbox()) overwrite = "--overwrite";
if (model == "") fail("no model is chosen; take a model.onnx, a run folder, or train one with CellScribble Train");
if (!by_macro) call("ij.Prefs.set", "cellscribble.model", model);

if (input == "") predict_open_image();
else predict_files();

function predict_files() {
    if (!File.exists(input)) fail("there is no file or folder " + input + "; choose an image, or leave Input empty for the open image");
    out = output;
    if (out == "") out = File.getParent(input) + File.separator + "cellscribble_out";
    showStatus("CellScribble predicts " + input + " ...");
    made = answer_of(exec(python, "-P", "-m", "cellscribble", "--macro", "predict", input, "-m", model, "-o", out, overwrite));
    paths = split(made, "\t");
    // A slide's labels are a Zarr store: Show labels opens it, if it fits into memory.
    if (paths.length == 1 && endsWith(paths[0], ".tif")) {
        if (File.isDirectory(input)) open_labels(paths[0], 0, false);
        else open_labels(paths[0], 0, rois);
    }
    done(made);
    showStatus("CellScribble: " + paths.length + " images done, results in " + out);
}

function predict_open_image() {
    if (nImages == 0) fail("no image is open; open one, or give a file or folder as Input");
    image = getImageID();
    title = getTitle();
    name = file_name(title);
    getDimensions(width, height, channels, slices, frames);
    getVoxelSize(pixel_width, pixel_height, pixel_depth, unit);
    x = 0; y = 0; w = width; h = height;
    part = is_area(selectionType());
    if (part) getSelectionBounds(x, y, w, h);
    temporary = temporary_folder();
    out = temporary;
    if (output != "") out = output + File.separator;
    showStatus("CellScribble predicts " + title + " ...");
    save_copy(image, temporary + name + ".tif", channels, slices, frames);
    answer = exec(python, "-P", "-m", "cellscribble", "--macro", "predict", temporary + name + ".tif", "-m", model, "-o", out, overwrite);
    ok = File.delete(temporary + name + ".tif");
    labels = out + name + "_labels.tif";
    if (File.isDirectory(out + name + "_labels.zarr"))
        answer = exec(python, "-P", "-m", "cellscribble", "--macro", "rois", out + name + "_labels.zarr", labels, "--overwrite");
    if (output != "" || !File.exists(labels)) remove_folder(temporary);
    labels = answer_of(answer);
    if (part && (w < width || h < height)) put_back(labels, x, y, width, height);
    open_labels(labels, image, rois);
    rename(title + " labels");
    setVoxelSize(pixel_width, pixel_height, pixel_depth, unit);
    if (output == "") remove_folder(temporary);
    else done(labels);
    showStatus("CellScribble: done");
}

// Labels of a part into labels of the whole, in the same file.
function put_back(path, x, y, width, height) {
    open(path);
    small = getImageID();
    rename("cellscribble_part");
    getVoxelSize(pixel_width, pixel_height, pixel_depth, unit);
    newImage("cellscribble_whole", bitDepth() + "-bit black", width, height, nSlices);
    run("Insert...", "source=cellscribble_part destination=cellscribble_whole x=" + x + " y=" + y);
    setVoxelSize(pixel_width, pixel_height, pixel_depth, unit);
    saveAs("Tiff", path);
    close();
    selectImage(small);
    close();
}

// include common.ijm
