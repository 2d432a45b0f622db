// Plugins > CellScribble > CellScribble Predict
// run("CellScribble Predict", "model=[model.onnx] input=[] output=[] rois");
// Input: an image file, a folder, or nothing for the open image; of that only the selection's rectangle, if there is one.

var model = "", input = "", output = "", rois = true, overwrite = "", pixel_size = "";

begin("model input output rois! overwrite! pixel");
if (!by_macro) model = call("ij.Prefs.get", "cellscribble.model", "");
Dialog.create("CellScribble Predict");
Dialog.addFile("Model", model);
Dialog.addString("Input (file or folder; empty: the open image)", "", 30);
Dialog.addString("Output (folder; empty: show only)", "", 30);
Dialog.addCheckbox("ROIs to the ROI Manager", true);
Dialog.addCheckbox("Overwrite results that exist", false);
ask_pixel_size();
Dialog.show();
model = Dialog.getString();
input = full_path(Dialog.getString());
output = full_path(Dialog.getString());
rois = Dialog.getCheckbox();
// No overlay is the program's default: words that change nothing.
overwrite = "--no-overlay";
if (Dialog.getCheckbox()) overwrite = "--overwrite";
pixel_size = pixel_size_word(Dialog.getChoice(), "--no-overlay");
if (model == "") fail("no model is chosen; take a model.onnx, a run folder, or train one with CellScribble Train");
if (!by_macro) call("ij.Prefs.set", "cellscribble.model", model);

if (input == "") predict_open_image();
else predict_files();

function predict_files() {
    if (!File.exists(input)) fail("there is no file or folder " + input + "; choose an image, or leave Input empty for the open image");
    make_temporary();
    out = output;
    if (out == "") out = File.getParent(input) + File.separator + "cellscribble_out";
    showStatus("CellScribble predicts " + input + " ...");
    made = answer_of(exec(python, "-P", "-m", "cellscribble", "--macro", "predict", input, "-m", model, "-o", out, overwrite, "--planes", pixel_size));
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
    name = result_name(title);
    getDimensions(width, height, channels, slices, frames);
    getVoxelSize(pixel_width, pixel_height, pixel_depth, unit);
    x = 0; y = 0; w = width; h = height;
    if (is_area(selectionType())) {
        Roi.getBounds(x, y, w, h);
        // A selection may reach beyond the image.
        w = minOf(x + w, width) - maxOf(x, 0);
        h = minOf(y + h, height) - maxOf(y, 0);
        x = maxOf(x, 0);
        y = maxOf(y, 0);
        if (w <= 0 || h <= 0) fail("the selection lies beside the image; draw one on it, or none");
    }
    make_temporary();
    out = temporary;
    if (output != "") out = output + File.separator;
    showStatus("CellScribble predicts " + title + " ...");
    save_copy(image, temporary + name + ".tif", channels, slices, frames);
    labels = answer_of(exec(python, "-P", "-m", "cellscribble", "--macro", "predict", temporary + name + ".tif", "-m", model, "-o", out, overwrite, "--planes", pixel_size));
    ok = File.delete(temporary + name + ".tif");
    if (File.isDirectory(labels))
        labels = answer_of(exec(python, "-P", "-m", "cellscribble", "--macro", "rois", labels, out + name + "_labels.tif", "--overwrite"));
    if (w < width || h < height) put_back(labels, x, y, width, height);
    open_labels(labels, image, rois);
    rename(title + " labels");
    setVoxelSize(pixel_width, pixel_height, pixel_depth, unit);
    if (output == "") done("");
    else done(labels);
    showStatus("CellScribble: " + n_objects + " objects");
}

// Labels of a part into labels of the whole, in the same file, whole or not at all.
function put_back(path, x, y, width, height) {
    open("" + readable(path));
    small = getImageID();
    rename("cellscribble_part");
    getVoxelSize(pixel_width, pixel_height, pixel_depth, unit);
    newImage("cellscribble_whole", bitDepth() + "-bit black", width, height, nSlices);
    run("Insert...", "source=cellscribble_part destination=cellscribble_whole x=" + x + " y=" + y);
    setVoxelSize(pixel_width, pixel_height, pixel_depth, unit);
    whole = File.getParent(path) + File.separator + ".cellscribble_whole.tif";
    saveAs("Tiff", whole);
    close();
    selectImage(small);
    close();
    // In two steps, since Windows renames onto no file that is there.
    ok = File.delete(path);
    ok = File.rename(whole, path);
}

// include common.ijm
