// Plugins > CellScribble > CellScribble Suggest regions
// run("CellScribble Suggest regions", "model=[model.onnx] number=10 size=96 input=[] output=[]");
// Boxes where the model is least sure, best first: draw there next. Input as in Predict; of an open image the whole.

begin("model number# size# input output pixel");
model = "";
if (!by_macro) model = call("ij.Prefs.get", "cellscribble.model", "");
Dialog.create("CellScribble Suggest regions");
Dialog.addFile("Model", model);
Dialog.addNumber("Number of boxes", 10);
Dialog.addNumber("Size of a box", 96, 0, 5, "px");
Dialog.addString("Input (file or folder; empty: the open image)", "", 30);
Dialog.addString("Output (folder; empty: beside the input)", "", 30);
ask_pixel_size();
Dialog.show();
model = Dialog.getString();
number = d2s(next_number("Number"), 0);
size = d2s(next_number("Size"), 0);
input = full_path(Dialog.getString());
output = full_path(Dialog.getString());
pixel_size = pixel_size_word(Dialog.getChoice(), "--overwrite");
if (model == "") fail("no model is chosen; take a model.onnx, a run folder, or train one with CellScribble Train");
if (!by_macro) call("ij.Prefs.set", "cellscribble.model", model);

if (input == "") {
    if (nImages == 0) fail("no image is open; open one, or give a file or folder as Input");
    image = getImageID();
    name = result_name(getTitle());
    make_temporary();
    out = temporary;
    if (output != "") out = output + File.separator;
    zip = out + name + "_suggestions.zip";
    showStatus("CellScribble looks at " + name + " ...");
    getDimensions(width, height, channels, slices, frames);
    run("Select None");
    save_copy(image, temporary + name + ".tif", channels, slices, frames);
    made = answer_of(exec(python, "-P", "-m", "cellscribble", "--macro", "suggest", temporary + name + ".tif", "-m", model, "-o", zip, "-n", number, "--size", size, "--overwrite", "--planes", pixel_size));
    show_boxes(zip, image);
    if (output == "") done("");
    else done(made);
} else {
    if (!File.exists(input)) fail("there is no file or folder " + input + "; choose an image, or leave Input empty for the open image");
    out = output;
    if (out == "") {
        out = input;
        if (!File.isDirectory(input)) out = File.getParent(input);
    }
    showStatus("CellScribble looks at " + input + " ...");
    made = answer_of(exec(python, "-P", "-m", "cellscribble", "--macro", "suggest", input, "-m", model, "-o", out, "-n", number, "--size", size, "--overwrite", "--planes", pixel_size));
    if (!File.isDirectory(input)) {
        if (can_open(input)) {
            open(input);
            show_boxes(made, getImageID());
        } else print("CellScribble: the boxes are in " + made + ", but ImageJ cannot open " + input);
    }
    done(made);
    showStatus("CellScribble: boxes in " + out + "; in Annotate the key s goes to them");
}

function show_boxes(zip, image) {
    if (zip == "" || !File.exists(zip)) {
        print("CellScribble: nothing to suggest, the model is sure of all that it looked at");
        return;
    }
    fill_manager(zip, image);
    roiManager("show all with labels");
    showStatus("CellScribble: " + roiManager("count") + " boxes, the least sure first (key s in Annotate)");
}

// include common.ijm
