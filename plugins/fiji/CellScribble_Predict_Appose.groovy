// CellScribble Predict through Appose: the model stays loaded from image to image, with progress and cancel.
// For Fiji only, with Appose's jar among its jars. Not tried in Fiji: see docs/fiji.md. To use it copy it into
// Fiji/scripts/Plugins/CellScribble. The Python needs: pip install 'cellscribble[fiji]'

#@ ImagePlus image
#@ File (label="Python that has CellScribble") python
#@ String (label="Model (file, run folder or name)") model
#@ StatusService status
#@output ImagePlus labels

import ij.IJ
import ij.ImagePlus
import ij.process.FloatProcessor
import ij.process.ShortProcessor
import java.nio.ByteOrder
import org.apposed.appose.Appose
import org.apposed.appose.NDArray
import org.apposed.appose.Service
import static org.apposed.appose.NDArray.Shape.Order.F_ORDER

SCRIPT = '''
from cellscribble.bridge.appose_worker import predict
task.outputs["labels"] = predict(task, image, "YX", model, ignore_pixel_size=True)
'''

// One worker for all calls of this Fiji: it keeps the model.
def worker() {
    def kept = System.getProperties().get("cellscribble.appose")
    if (kept == null || !kept.isAlive()) {
        kept = Appose.system().service([python.absolutePath], "-c",
            "import numpy; import appose.python_worker as w; w.main()")
        System.getProperties().put("cellscribble.appose", kept)
    }
    return kept
}

if (image.getNChannels() * image.getNSlices() * image.getNFrames() > 1 || image.getBitDepth() == 24) {
    IJ.error("CellScribble", "this script takes a single grey plane; use Plugins > CellScribble > CellScribble Predict")
    return
}
int width = image.getWidth(), height = image.getHeight()
def pixels = new NDArray(NDArray.DType.FLOAT32, new NDArray.Shape(F_ORDER, width, height))
pixels.buffer().order(ByteOrder.nativeOrder()).asFloatBuffer().put((float[]) image.getProcessor().convertToFloat().getPixels())

def task = worker().task(SCRIPT, [image: pixels, model: model])
task.listen { event ->
    if (event.message != null) status.showStatus((int) event.current, (int) event.maximum, "CellScribble: " + event.message)
    if (IJ.escapePressed()) task.cancel()
}
IJ.resetEscape()
try {
    task.start()
    task.waitFor()
    if (task.status == Service.TaskStatus.COMPLETE) {
        def found = task.outputs["labels"]
        def buffer = found.buffer().order(ByteOrder.nativeOrder())
        def made
        if (found.dType() == NDArray.DType.UINT16) {
            made = new ShortProcessor(width, height)
            buffer.asShortBuffer().get((short[]) made.getPixels())
        } else {
            // ImageJ has no 32-bit integers.
            made = new FloatProcessor(width, height)
            for (int i = 0; i < width * height; i++) made.setf(i, (float) buffer.getInt(4 * i))
        }
        made.resetMinAndMax()
        // Fiji shows what a script gives; one without a screen hands it to the caller.
        labels = new ImagePlus(image.getTitle() + " labels", made)
        labels.setCalibration(image.getCalibration())
        found.close()
        IJ.run(labels, "glasbey on dark", "")
    } else if (task.error != null) {
        IJ.error("CellScribble", task.error.readLines().last())
    }
} finally {
    pixels.close()
}
